"""The commands `run` and `check`: read, check, get the data, run, report."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lib import notebooks, parameter_types, paths
from lib.batch import parameter_grid, plan, progress_view, results, scheduler, status
from lib.batch import study as studies
from lib.batch.dask_executor import Executor, default_workers
from lib.batch.plan import Report, Step
from lib.batch.progress_view import view
from lib.batch.scheduler import Scheduler
from lib.batch.study import Study
from lib.errors import DarkroomError
from lib.runs import record
from lib.runs.failure import CLASSES

PREPARED = "prepared.ipynb"
"""A run's notebook with its parameters, written by `--prepare-only`."""
_NAMED = 3  # runs that were left out for one reason are named; more of them are counted


def run(
    name: str,
    *,
    settings: Mapping[str, str],
    tiny: bool = False,
    force: bool = False,
    stages: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    workers: int | None = None,
    cluster: str | None = None,
    dry_run: bool = False,
    prepare_only: bool = False,
    log_output: bool = False,
    output: str = "",
    as_json: bool = False,
) -> int:
    """Runs a study and prints its results; `darkroom run --help` explains the arguments.

    Returns 0 when every run has a result, else 1. Raises DarkroomError, before anything is started,
    for whatever is wrong with the request.
    """
    executor = Executor(workers=workers, cluster=cluster)
    if dry_run and prepare_only:
        raise DarkroomError("--dry-run writes nothing, --prepare-only writes notebooks: give one.")
    study = studies.read(name, settings=settings, tiny=tiny, seeds=seeds, arms=arms)
    for stage in stages:
        study.stage(stage)
    if dry_run:
        steps = plan.whole(study, force=force, absent=_absent(study))
        _print_plan(*_of_stages(study, steps, stages), as_json=as_json)
        return 0
    if prepare_only:
        return _prepare(study, stages, as_json=as_json)
    scheduler.refuse_held(study)  # now, not when its data have been read
    _bring(study, quiet=as_json)
    shown, steps = _of_stages(study, plan.whole(study, force=force), stages)
    plan.check_disk_space(steps)
    if not as_json:
        _announce(shown, steps)
    options = {"--arm": arms, "--seeds": [",".join(map(str, seeds))] if seeds else []}
    options |= {"--cluster": [cluster] if cluster else [], "--output": [output] if output else []}
    options["--set"] = [f"{key}={value}" for key, value in settings.items()]
    words = [word for key, values in options.items() for value in values for word in (key, value)]
    with (
        executor,
        view(quiet=as_json, log_output=log_output) as watcher,
    ):
        executor.check(paths.logs(), gpus=max(stage.resources.gpus or 0 for stage in study.stages))
        report = Scheduler(
            study,
            executor,
            watcher,
            force=force,
            only=stages,
            command=shlex.join(["darkroom", "run", name, *words, *["--tiny"][: int(tiny)]]),
            output=output.rstrip("/"),
            log_output=log_output,
        ).run()
    if report.count("finished", "failed") or not (paths.logs() / results.PAGE).exists():
        try:
            results.write_page()
        except OSError as error:  # it is rebuilt next time; what came of the runs must be said
            print(f"The page of all studies could not be written: {error}", file=sys.stderr)
    _print_json(report) if as_json else _print_report(report)
    return 0 if report.complete() and not report.unwritten else 1


def _absent(study: Study) -> dict[str, str]:
    """Data sets of a study that are not here yet, with what would be done; nothing is written.

    Raises DarkroomError for data that cannot be brought here.
    """
    from lib.data import dataset

    absent = {}
    for name in sorted(_data_names(study) - set(dataset.names())):
        parameter_grid.check_data(_as_given(study, name))
        absent[name] = f"the data set {name!r} would be brought here first"
    return absent


def _data_names(study: Study) -> set[str]:
    return {spec.parameters["data"] for spec in study.runs() if spec.parameters.get("data")}


def _as_given(study: Study, name: str) -> str:
    """A data set as it was given, which may be a path."""
    if study.data is None:
        return name
    named = parameter_grid.data_name(study.data)
    given = {named: study.data, named + paths.TINY: study.data + paths.TINY}
    return given.get(name, name)


def _prepare(study: Study, stages: Sequence[str], *, as_json: bool) -> int:
    from lib.batch import notebook_job

    written = []
    for stage in study.stages:
        for spec in stage.runs if not stages or stage.name in stages else ():
            target = paths.run(study.folder, spec.stage, spec.name) / PREPARED
            values = parameter_types.cell_values(spec.parameters, stage.notebook.parameters)
            notebook_job.prepare_notebook(str(stage.notebook.path), target, values)
            written.append(str(target))
    if as_json:
        print(json.dumps({"study": study.folder, "prepared": written}, indent=1))
    else:
        print(*written, sep="\n")
    return 0


def check(names: Sequence[str], *, settings: Mapping[str, str], as_json: bool = False) -> int:
    """Reads studies and notebooks, prints what they consist of, and returns 0, or 2 if one is
    wrong.
    """
    files = [] if names else sorted(paths.notebooks().glob("*.ipynb"))
    rows = []
    for file in [*files, *(names or studies.names())]:
        name = getattr(file, "name", file)
        try:
            rows.append({"name": name, "good": True, "about": _about(file, settings)})
        except DarkroomError as error:
            rows.append({"name": name, "good": False, "about": str(error)})
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    for row in rows if not as_json else []:
        print(f"{row['name']}: {row['about']}", file=sys.stdout if row["good"] else sys.stderr)
    return 0 if all(row["good"] for row in rows) else 2


def _about(file: str | Path, settings: Mapping[str, str]) -> str:
    if isinstance(file, Path):
        return f"{len(notebooks.find(file.stem).parameters)} parameters"
    study = studies.read(file, settings=settings)
    return ", ".join(f"{stage.name} × {len(stage.runs)}" for stage in study.stages)


def _bring(study: Study, *, quiet: bool) -> None:
    """Gets every data set, so that its faults are reported before anything runs."""
    used = _data_names(study)
    if not used:
        return
    from lib.cleaning import clean
    from lib.data import dataset, intake

    for name in sorted(used):
        is_new = name not in dataset.names()
        brought = intake.bring(_as_given(study, name))
        if brought.sample is not None and not brought.cleaned():
            clean.clean(brought)  # of seconds, for studies that have no such stage
        clean.sync(brought)  # decisions made in the browser since
        if is_new and not quiet:
            about = [brought.source.get(key) for key in ("about", "licence", "citation")]
            print(f"Data set {name!r}: {brought.raw}", *filter(None, about), sep="\n  ")


def _of_stages(study: Study, steps: list[Step], stages: Sequence[str]) -> tuple[Study, list[Step]]:
    """The part of a study that `--stage` asks for, and its steps; all of it without one."""
    if not stages:
        return study, steps
    kept = [
        replace(stage, after=tuple(name for name in stage.after if name in stages))
        for stage in study.stages
        if stage.name in stages
    ]
    return replace(study, stages=tuple(kept)), [step for step in steps if step.run.stage in stages]


def _announce(study: Study, steps: list[Step]) -> None:
    counts = Counter(step.action for step in steps)
    waiting = f", {counts['wait']} to be judged when the stages before have ended"
    print(study.question or study.name)
    print(
        f"{_runs(len(steps))} in logs/{study.folder}: {counts['skip']} finished, "
        f"{counts['run']} to do{waiting if counts['wait'] else ''}."
    )
    for name, arms in study.left_out.items():
        print(f"Left out, since --arm names none of its arms: {name} ({', '.join(arms)}).")
    for sentence in plan.smallest_differences(study):
        print(sentence)
    if expected := _expected(study, steps):
        print(f"Time: {expected}.")


def _expected(study: Study, steps: list[Step]) -> str:
    """How long the runs that are to be done will take, by what such runs took on this machine."""
    states = {step.run.id: "skipped" if step.action == "skip" else "queued" for step in steps}
    report = Report(study, states, slots=default_workers())
    return progress_view.estimate(report, []).text(report).replace(" left", "")


def _print_plan(study: Study, steps: list[Step], *, as_json: bool) -> None:
    if not as_json:
        _announce(study, steps)
        for step in steps:
            print(f"{step.action:>5}  {step.run.id}  ({step.reason})")
        return
    runs = [{"run": step.run.id, "action": step.action, "reason": step.reason} for step in steps]
    facts = {
        "study": study.folder,
        "question": study.question,
        "runs": runs,
        "smallest_differences": plan.smallest_differences(study),
        "time": _expected(study, steps),
    }
    print(json.dumps(facts, indent=1, ensure_ascii=False))


def _print_report(report: Report) -> None:
    for name, failed in report.failures.items():
        print(f"\nFailed: {name}, {status.place(failed)}")
        print(f"  {failed['exception']}: {failed['message']}")
        print(f"  {failed['kind']}: {CLASSES[failed['kind']]}")
        print(f"  Look at {paths.logs() / report.study.folder / name / record.NOTEBOOK}")
    left: dict[str, list[str]] = {}
    for name, state in report.states.items():
        if state == "blocked":
            left.setdefault(report.reasons[name], []).append(name)
    for reason, runs in left.items():
        few = len(runs) <= _NAMED
        print(f"Left out: {', '.join(runs) if few else _runs(len(runs))} ({reason})")
    for note in report.unwritten:
        print(f"Not written: {note}")
    for table in _outputs(report.study, "comparison.csv"):
        _print_table(table)
    unfinished = len(report.states) - report.count("finished", "skipped")
    done = ""
    if took := sum(report.seconds.values()):
        done = f"{_runs(report.count('finished'))} done in {progress_view.spoken(took)} of work, "
    print(f"\n{done}{_runs(report.count('skipped'))} had finished before.")
    if unfinished:
        how = "Go on with the same command"
        if scheduler.LEFT_OUT in left:
            how = "Without --stage they are run too"
        have = "has" if unfinished == 1 else "have"
        print(f"{_runs(unfinished)} {have} no result. {how}: what has finished is not repeated.")
    for page in _outputs(report.study, "report.html"):
        print(f"Report: {page}")
    print(f"All studies: {paths.logs() / results.PAGE}")


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"


def _print_json(report: Report) -> None:
    folder = paths.logs() / report.study.folder
    runs = [
        {
            "run": name,
            "state": state,
            "seconds": report.seconds.get(name),
            "reason": report.reasons.get(name, ""),
            "failure": report.failures.get(name),
            "folder": str(folder / name),
        }
        for name, state in report.states.items()
    ]
    outcome = {
        "study": report.study.folder,
        "complete": report.complete(),
        "runs": runs,
        "not_written": report.unwritten,
        "reports": [str(page) for page in _outputs(report.study, "report.html")],
        "results": str(folder / results.CSV),
    }
    print(json.dumps(outcome, indent=1, ensure_ascii=False))


def _outputs(study: Study, name: str) -> list[Path]:
    """The files of that name that the runs of a study have written."""
    files = [paths.run(study.folder, spec.stage, spec.name) / name for spec in study.runs()]
    return [file for file in files if file.is_file()]


def _print_table(path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file)) or [[]]

    def drawn(rows: Sequence[Sequence[str]]) -> Table:
        table = Table(*rows[0], box=None, pad_edge=False)
        for row in rows[1:]:
            table.add_row(*row)
        return table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    fits = Console(width=10_000).measure(drawn(rows)).maximum <= console.width
    print()
    console.print(drawn(rows if fits else list(zip(*rows, strict=True))))
