"""The commands `run` and `check`: read, check, get the data, run, report."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import notebooks, parameters, paths
from lib.batch import parameter_grid, plan, progress_view, results, scheduler
from lib.batch import study as studies
from lib.batch.executor import Executor, default_workers
from lib.batch.plan import Step
from lib.batch.progress_view import view
from lib.batch.scheduler import Execution, Report, Scheduler
from lib.batch.study import Study
from lib.errors import DarkroomError, suggest
from lib.runs.failure import CLASSES

if TYPE_CHECKING:
    from rich.table import Table

PREPARED = "prepared.ipynb"
"""A run's notebook with its parameters, written by `--prepare-only`."""
_NAMED = 3  # runs that were left out for one reason are named; more of them are counted


@dataclass(frozen=True)
class Options:
    """Options of `darkroom run`."""

    force: bool = False
    stages: list[str] = field(default_factory=list)
    """Only these; all where empty."""
    arms: list[str] = field(default_factory=list)
    """Only these, in the stages that have one of them; all where empty."""
    seeds: list[int] = field(default_factory=list)
    """In place of the stages' own."""
    workers: int | None = None
    cluster: str | None = None
    dry_run: bool = False
    prepare_only: bool = False
    """Only write each run's notebook with its parameters."""
    log_output: bool = False
    """Print what the cells print."""
    output: str = ""
    """A second place for the executed notebooks; any folder that papermill can write to."""
    json: bool = False


def run(name: str, *, settings: Mapping[str, str], tiny: bool, options: Options) -> int:
    """Runs a study and prints its results. Returns 0 when every run has a result, else 1.

    Raises DarkroomError, before anything is started, for whatever is wrong with the request.
    """
    _check_options(options)
    study = studies.read(name, settings=settings, tiny=tiny, seeds=options.seeds)
    study = study.narrowed(options.arms)
    for stage in options.stages:
        study.stage(stage)
    if options.dry_run:
        steps = plan.whole(study, force=options.force, absent=_absent(study))
        _print_plan(study, steps, as_json=options.json)
        return 0
    if options.prepare_only:
        return _prepare(study, options)
    scheduler.refuse_held(study)  # now, not when its data have been read
    _bring(study, quiet=options.json)
    steps = plan.whole(study, force=options.force)
    plan.check_disk_space(steps)
    if not options.json:
        _announce(study, steps)
    line = _command_line(name, settings, tiny, options)
    how = Execution(
        force=options.force,
        only=options.stages,
        command=line,
        output=options.output.rstrip("/"),
        log_output=options.log_output,
    )
    with (
        Executor(workers=options.workers, cluster=options.cluster) as executor,
        view(quiet=options.json, log_output=options.log_output) as watcher,
    ):
        executor.check(paths.logs(), gpus=max(stage.resources.gpus or 0 for stage in study.stages))
        report = Scheduler(study, executor, watcher, how).run()
    if report.count("finished", "failed") or not (paths.logs() / results.PAGE).exists():
        _write_page()
    _print_json(report) if options.json else _print_report(report)
    return 0 if report.complete() and not report.unwritten else 1


def _check_options(options: Options) -> None:
    if options.workers is not None and options.workers < 1:
        raise DarkroomError(f"--workers must be at least 1. Received: {options.workers}.")
    if options.workers and options.cluster:
        raise DarkroomError(
            "--workers is for this machine; a cluster has the workers it has. Leave one of the two "
            "out."
        )
    if options.dry_run and options.prepare_only:
        raise DarkroomError("--dry-run writes nothing, --prepare-only writes notebooks: give one.")


def _absent(study: Study) -> dict[str, str]:
    """Data sets of a study that are not here yet, with what would be done; nothing is written.

    Raises DarkroomError for data that cannot be brought here.
    """
    from lib.data import dataset, sources

    here, absent = dataset.names(), {}
    for name in sorted(_data_names(study)):
        if name in here:
            continue
        wanted = _as_given(study, name)
        whole = wanted.removesuffix(paths.TINY)
        if whole not in (*here, *sources.PACKAGED) and not paths.typed(whole).exists():
            raise DarkroomError(
                f"There is no data set {whole!r}.{suggest(whole, [*here, *sources.PACKAGED])} "
                "Give the name of one (`darkroom list data`), or the path of a folder, table or "
                "archive."
            )
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


def _prepare(study: Study, options: Options) -> int:
    from lib.batch import job

    written = []
    for stage in study.stages:
        for spec in stage.runs:
            if options.stages and stage.name not in options.stages:
                continue
            folder = paths.run(study.folder, spec.stage, spec.name)
            target = folder / PREPARED
            values = parameters.cell_values(spec.parameters, stage.notebook.parameters)
            job.prepare_notebook(str(stage.notebook.path), target, values)
            written.append(str(target))
    if options.json:
        print(json.dumps({"study": study.folder, "prepared": written}, indent=1))
    else:
        print(*written, sep="\n")
    return 0


def check(names: Sequence[str], *, settings: Mapping[str, str], as_json: bool = False) -> int:
    """Reads studies and notebooks, prints what they consist of, and returns 0, or 2 if one is
    wrong.
    """
    rows = []
    for path in sorted(paths.notebooks().glob("*.ipynb")) if not names else []:
        rows.append(
            _reported(
                path.name,
                lambda path=path: f"{len(notebooks.find(path.stem).parameters)} parameters",
            )
        )
    for name in names or studies.names():
        rows.append(
            _reported(name, lambda name=name: _counted(studies.read(name, settings=settings)))
        )
    if as_json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    for row in rows if not as_json else []:
        print(f"{row['name']}: {row['about']}", file=sys.stdout if row["good"] else sys.stderr)
    return 0 if all(row["good"] for row in rows) else 2


def _reported(name: str, check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "good": True, "about": check()}
    except DarkroomError as error:
        return {"name": name, "good": False, "about": str(error)}


def _counted(study: Study) -> str:
    return ", ".join(f"{stage.name} × {len(stage.runs)}" for stage in study.stages)


def _write_page() -> None:
    try:
        results.write_page()
    except OSError as error:  # it is rebuilt next time; what came of the runs must be said
        print(f"The page of all studies could not be written: {error}", file=sys.stderr)


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


def _announce(study: Study, steps: list[Step]) -> None:
    counts = plan.counts(steps)
    print(study.question or study.name)
    waiting = (
        f", {counts['wait']} to be judged when the stages before have ended"
        if counts["wait"]
        else ""
    )
    print(
        f"{len(steps)} runs in logs/{study.folder}: {counts['skip']} finished, {counts['run']} to "
        f"do{waiting}."
    )
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
    for name, failure in report.failures.items():
        folder = paths.logs() / report.study.folder / name
        where = (
            f"cell {failure['cell']} ({failure['source']})" if failure.get("cell") else "no cell"
        )
        print(f"\nFailed: {name}, {where}\n  {failure['exception']}: {failure['message']}")
        print(
            f"  {failure['kind']}: {CLASSES[failure['kind']]}\n  Look at "
            f"{folder / 'notebook.ipynb'}"
        )
    left: dict[str, list[str]] = {}
    for name, state in report.states.items():
        if state == "blocked":
            left.setdefault(report.reasons[name], []).append(name)
    for reason, runs in left.items():
        print(
            f"Left out: {', '.join(runs) if len(runs) <= _NAMED else _runs(len(runs))} ({reason})"
        )
    for note in report.unwritten:
        print(f"Not written: {note}")
    for table in tables(report.study):
        _print_table(table)
    unfinished = len(report.states) - report.count("finished", "skipped")
    took = sum(report.seconds.values())
    done = (
        f"{_runs(report.count('finished'))} done in {progress_view.spoken(took)} of work, "
        if took
        else ""
    )
    print(f"\n{done}{_runs(report.count('skipped'))} had finished before.")
    if unfinished:
        how = (
            "Without --stage they are run too"
            if scheduler.LEFT_OUT in left
            else "Go on with the same command"
        )
        have = "has" if unfinished == 1 else "have"
        print(f"{_runs(unfinished)} {have} no result. {how}: what has finished is not repeated.")
    for page in pages(report.study):
        print(f"Report: {page}")
    print(f"All studies: {paths.logs() / results.PAGE}")


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"


def _print_json(report: Report) -> None:
    runs = [
        {
            "run": name,
            "state": state,
            "seconds": report.seconds.get(name),
            "reason": report.reasons.get(name, ""),
            "failure": report.failures.get(name),
            "folder": str(paths.logs() / report.study.folder / name),
        }
        for name, state in report.states.items()
    ]
    outcome = {
        "study": report.study.folder,
        "complete": report.complete(),
        "runs": runs,
        "not_written": report.unwritten,
        "reports": [str(page) for page in pages(report.study)],
        "results": str(paths.logs() / report.study.folder / results.CSV),
    }
    print(json.dumps(outcome, indent=1, ensure_ascii=False))


def tables(study: Study) -> list[Path]:
    """Returns the comparison tables of a study's stages, those that are there."""
    return _files(study, "comparison.csv")


def pages(study: Study) -> list[Path]:
    """Returns the HTML reports of a study's stages, those that are there."""
    return _files(study, "report.html")


def _files(study: Study, name: str) -> list[Path]:
    candidates = [paths.run(study.folder, spec.stage, spec.name) / name for spec in study.runs()]
    return [path for path in candidates if path.is_file()]


def _print_table(path: Path) -> None:
    from rich.console import Console

    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file)) or [[]]
    console = Console() if sys.stdout.isatty() else Console(width=200)
    fits = Console(width=10_000).measure(_table(rows)).maximum <= console.width
    turned = [list(column) for column in zip(*rows, strict=True)]
    print()
    console.print(_table(rows if fits else turned))


def _table(rows: list[list[str]]) -> Table:
    from rich.table import Table

    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _command_line(name: str, settings: Mapping[str, str], tiny: bool, options: Options) -> str:
    """The command as it can be typed again."""
    import shlex

    words = [
        "darkroom",
        "run",
        name,
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")),
    ]
    words += ["--tiny"] if tiny else []
    words += [word for arm in options.arms for word in ("--arm", arm)]
    words += ["--seeds", ",".join(map(str, options.seeds))] if options.seeds else []
    words += ["--cluster", options.cluster] if options.cluster else []
    words += ["--output", options.output] if options.output else []
    return shlex.join(words)
