"""The pages of what ran: studies, the runs of one, and one run with its figures, numbers and report."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, render_template, request, send_file

from lib.batch import standing
from lib.data import images
from lib.errors import DarkroomError
from lib.evaluation import style
from lib.features import record
from lib.web import archive
from lib.web.archive import Unit

pages = Blueprint("runs_page", __name__)

# The report is a page of its own without any script; nothing in it may load from anywhere.
_REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; sandbox"
)


@pages.get("/runs")
def every() -> str:
    """All studies, the latest first."""
    return render_template("runs.html", studies=[_study(name) for name in archive.studies()], page="runs")


@pages.get("/runs/<study>")
def one_study(study: str) -> str:
    """One study: its question, its runs as a table, its report."""
    units = archive.units(study)
    trained = [each for each in units if "accuracy" in each.result.get("metrics", {})]
    return render_template(
        "study.html", about=_study(study), trained=sorted(trained, key=lambda each: -each.result["metrics"]["accuracy"]),
        others=[each for each in units if each not in trained], figures=_figures_of(archive.report(study)), page="runs",
    )  # fmt: skip


@pages.get("/runs/<study>/<stage>/<unit>")
def one_run(study: str, stage: str, unit: str) -> str:
    """One run: sentences, numbers, figures with their words, parameters."""
    found = archive.unit(study, stage, unit)
    numbers = {name: value for name, value in found.result.get("metrics", {}).items() if isinstance(value, int | float | str)}
    flagged = [each for each in found.result.get("audit", []) if isinstance(each, dict) and each.get("outcome") != "held"]
    parameters = found.result.get("key", {}).get("parameters", {})
    return render_template(
        "run.html", found=found, figures=_figures_of(found), numbers=numbers, flagged=flagged, parameters=parameters,
        has_maps=(found.folder / record.ACCOUNT).is_file(), page="runs",
    )  # fmt: skip


@pages.get("/runs/<study>/<stage>/<unit>/figures/<name>")
def figure(study: str, stage: str, unit: str, name: str) -> Response:
    """A figure of a run."""
    response = send_file(archive.figure(archive.unit(study, stage, unit), name), mimetype="image/png", conditional=True)
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@pages.get("/runs/<study>/<stage>/<unit>/report")
def report(study: str, stage: str, unit: str) -> Response:
    """The report of a comparison, as it was written."""
    path = archive.unit(study, stage, unit).folder / "report.html"
    if not path.is_file():
        abort(404, "This run wrote no report.")
    response = send_file(path, mimetype="text/html", conditional=True)
    response.headers["Content-Security-Policy"] = _REPORT_POLICY
    return response


@pages.app_template_global()
def board_address() -> str:
    """Where TensorBoard is, once `darkroom board` runs on the same machine."""
    return f"http://{request.host.rsplit(':', 1)[0]}:6006/"


def _study(name: str) -> dict[str, Any]:
    try:
        about, standings = standing.read(name), standing.standings(name)
    except (DarkroomError, KeyError, TypeError):  # a notebook opened by hand belongs to no study file
        about, standings = {}, []
    units = archive.units(name)
    reached = [each.result["metrics"]["accuracy"] for each in units if "accuracy" in each.result.get("metrics", {})]
    waiting = [each for each in standings if each.state != "finished"]
    return {
        "name": name, "question": about.get("question", ""), "finished": len(units), "waiting": waiting,
        "data": next((each.result["data"] for each in units if each.result.get("data")), None),
        "best": max(reached, default=None), "report": archive.report(name),
        "maps": [each for each in units if (each.folder / record.ACCOUNT).is_file()],
    }  # fmt: skip


def _figures_of(found: Unit | None) -> list[dict[str, str]]:
    if found is None:
        return []
    told = []
    for name in found.result.get("figures", []):
        try:
            words = style.alt_of(archive.figure(found, name))
        except (DarkroomError, OSError, images.ImageError):
            continue
        told.append({"name": name, "title": name.removesuffix(".png").replace("_", " "), "alt": words or name})
    return told
