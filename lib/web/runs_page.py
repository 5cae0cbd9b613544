"""The pages of what ran: studies, the runs of one, and one run with its figures, numbers and
report.
"""

from __future__ import annotations

import re
import socket
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, render_template, request, send_file

from lib.batch import status
from lib.data import decode
from lib.embeddings import record
from lib.errors import DarkroomError
from lib.evaluation import multilabel
from lib.reporting import style
from lib.web import archive
from lib.web.archive import Run

pages = Blueprint("runs_page", __name__)
_BOARD_PORT = 6006  # of `darkroom board`

# The report is a page of its own without any script; nothing in it may load from anywhere.
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; sandbox"


@pages.get("/runs")
def every() -> str:
    """All studies, the latest first."""
    return render_template(
        "runs.html", studies=[_study(name) for name in archive.studies()], page="runs"
    )


@pages.get("/runs/<study>")
def one_study(study: str) -> str:
    """One study: its question, its runs as a table, its report."""
    units = archive.runs(study)
    trained = [each for each in units if _accuracy(each) is not None]
    about = _study(study)
    return render_template(
        "study.html",
        about=about,
        trained=sorted(trained, key=lambda each: (each.result.get("data") or "", -_accuracy(each))),
        several=[each for each in units if multilabel.is_of(each.result)],
        others=[
            each for each in units if _accuracy(each) is None and not multilabel.is_of(each.result)
        ],
        drawn={each.id: _figures_of(each) for each in about["reports"]},
        page="runs",
    )


@pages.get("/runs/<study>/<stage>/<unit>")
def one_run(study: str, stage: str, unit: str) -> str:
    """One run: sentences, numbers, figures with their words, parameters."""
    found = archive.run(study, stage, unit)
    numbers = {
        name: value
        for name, value in found.result.get("metrics", {}).items()
        if isinstance(value, int | float | str)
    }
    flagged = [
        each
        for each in found.result.get("audit", [])
        if isinstance(each, dict) and each.get("outcome") != "held"
    ]
    parameters = found.result.get("key", {}).get("parameters", {})
    return render_template(
        "run.html",
        found=found,
        figures=_figures_of(found),
        numbers=numbers,
        flagged=flagged,
        parameters=parameters,
        has_maps=(found.folder / record.ACCOUNT).is_file(),
        page="runs",
    )


@pages.get("/runs/<study>/<stage>/<unit>/figures/<name>")
def figure(study: str, stage: str, unit: str, name: str) -> Response:
    """A figure of a run."""
    response = send_file(
        archive.figure_path(archive.run(study, stage, unit), name),
        mimetype="image/png",
        conditional=True,
    )
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@pages.get("/runs/<study>/<stage>/<unit>/report")
def report(study: str, stage: str, unit: str) -> Response:
    """The report that a run wrote, as it is: of a comparison, or of a model applied to pictures."""
    path = archive.run(study, stage, unit).folder / "report.html"
    if not path.is_file():
        abort(404, "This run wrote no report.")
    response = send_file(path, mimetype="text/html", conditional=True)
    response.headers["Content-Security-Policy"] = _REPORT_POLICY
    return response


@pages.app_template_global()
def board_address(study: str = "") -> str | None:
    """Where TensorBoard shows a study (all of them where none is named), or None while none runs
    beside this site.
    """
    host = request.host.rsplit(":", 1)[0]
    try:
        socket.create_connection(("127.0.0.1", _BOARD_PORT), timeout=0.2).close()
    except OSError:
        return None
    chosen = f"?{urlencode({'runFilter': f'^{re.escape(study)}/'})}" if study else ""
    return f"http://{host}:{_BOARD_PORT}/{chosen}#timeseries"


@pages.app_template_global()
def report_title(found: Run) -> str:
    """What a report is called beside the others of its study: its arm, or its stage where it has
    none.
    """
    return (found.stage if found.name == "all" else found.name).replace("_", " ")


def _study(name: str) -> dict[str, Any]:
    try:
        about, standings = status.read(name), status.of_study(name)
    except (
        DarkroomError,
        KeyError,
        TypeError,
    ):  # a notebook opened by hand belongs to no study file
        about, standings = {}, []
    units = archive.runs(name)
    reached = [accuracy for each in units if (accuracy := _accuracy(each)) is not None]
    data = sorted({each.result["data"] for each in units if each.result.get("data")})
    waiting = [each for each in standings if each.state != "finished"]
    return {
        "name": name,
        "question": about.get("question", ""),
        "finished": len(units),
        "waiting": waiting,
        "data": data,
        "best": max(reached, default=None)
        if len(data) < 2
        else None,  # of several data sets none is the best
        "reports": archive.reports(name),
        "maps": [each for each in units if (each.folder / record.ACCOUNT).is_file()],
    }


def _accuracy(found: Run) -> float | None:
    """Of models that name one class; for several classes an image accuracy is another thing."""
    return (
        None if multilabel.is_of(found.result) else found.result.get("metrics", {}).get("accuracy")
    )


def _figures_of(found: Run) -> list[dict[str, str]]:
    told = []
    for name in found.result.get("figures", []):
        try:
            words = style.alt_of(archive.figure_path(found, name))
        except (DarkroomError, OSError, decode.ImageError):
            continue
        told.append(
            {
                "name": name,
                "title": name.removesuffix(".png").replace("_", " "),
                "alt": words or name,
            }
        )
    return told
