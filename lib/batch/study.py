"""The study file: a question, the notebooks that answer it, the arms to compare, the seeds.

`read` returns a study with every parameter of every run filled in and checked; nothing has been
started by then. Later entries of this list override earlier ones: the notebook's defaults,
`[shared]`, the stage's `parameters`, the arm, `[tiny.parameters]`, what was typed with `--set`, and
last what the suite itself fills in (`study`, `arm`, `seed`, `tiny`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lib import files, hashing, notebooks, paths
from lib.batch import parameter_grid
from lib.batch.parameter_grid import General, RunSpec
from lib.errors import DarkroomError, check_choice, suggest, unknown
from lib.notebooks import Notebook
from lib.runs import record

_STUDY = {
    "question": str,
    "extends": str,
    "budget_minutes": (int, float),
    "shared": dict,
    "stage": list,
    "tiny": dict,
    "published": dict,
}
_STAGE = {
    "name": str,
    "notebook": str,
    "after": list,
    "seeds": list,
    "seed_sets": list,
    "parameters": dict,
    "arms": dict,
    "ablation_of": str,
    "combinations": list,
    "other_arms": list,
    "cores": (int, float),
    "gpus": int,
    "memory_gb": (int, float),
    "time_limit_minutes": (int, float),
}
_TINY = {"seeds": list, "parameters": dict}
_PUBLISHED_RANGES = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "top5_accuracy"), (0, 1)),
    **dict.fromkeys(("train_accuracy", "val_accuracy", "roc_auc"), (0, 1)),
    **dict.fromkeys(("kappa", "matthews"), (-1, 1)),
    "n": (1, math.inf),
}
"""Possible range of a published figure."""


@dataclass(frozen=True)
class Resources:
    """Resources of one run of a stage. None shares the machine among the running runs."""

    cores: float | None = None
    gpus: int | None = None
    """GPUs that the run has for itself; asked for only where there are any, so that the same study
    runs on a laptop. 0: the run sees none. None: it shares one with other runs.
    """
    memory_gb: float | None = None
    """A run that grows beyond it is stopped."""
    time_limit_minutes: float | None = None


@dataclass(frozen=True)
class Stage:
    """One notebook of a study with all its runs."""

    name: str
    notebook: Notebook
    after: tuple[str, ...]
    resources: Resources
    runs: tuple[RunSpec, ...]


@dataclass(frozen=True)
class Study:
    """A study, checked. `folder` is the name of its folder in `logs/`; `data` as it was told, a
    name or a path.
    """

    name: str
    path: Path
    folder: str
    question: str
    budget_minutes: float | None
    data: str | None
    stages: tuple[Stage, ...]
    published: dict[str, Any] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    """Values of `--set`."""
    tiny: bool = False
    seeds: tuple[int, ...] = ()
    """Values of `--seeds`."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stages that `narrowed` has left out, with their arms."""

    def runs(self) -> list[RunSpec]:
        """Returns all runs, in the order of the stages."""
        return [run for stage in self.stages for run in stage.runs]

    def stage(self, name: str) -> Stage:
        """Returns one stage by its name. Raises DarkroomError for a name that is none."""
        if arms := self.left_out.get(name):
            raise DarkroomError(
                f"{self.path.name}: --arm names none of the arms of the stage {name!r}. It has "
                f"{', '.join(arms)}."
            )
        stages = {stage.name: stage for stage in self.stages}
        check_choice("stage", name, stages, where=self.path.name)
        return stages[name]

    def narrowed(self, arms: Sequence[str]) -> Study:
        """Returns the study with only these arms, and the stages without arms; all of it for none.

        A stage none of whose arms is named stays where a named arm comes after it.

        Raises DarkroomError for an arm that no stage has.
        """
        known = dict.fromkeys(run.arm for run in self.runs() if run.arm)
        for arm in arms:
            check_choice("arm", arm, known, where=self.path.name)
        if not arms:
            return self
        needed = {
            name for run in self.runs() if run.arm in arms for name in self.upstream(run.stage)
        }
        kept: dict[str, Stage] = {}
        left_out: dict[str, tuple[str, ...]] = {}
        for stage in self.stages:
            own = tuple(run for run in stage.runs if run.arm in arms)
            if own or stage.name in needed or all(run.arm is None for run in stage.runs):
                after = tuple(name for name in stage.after if name in kept)
                kept[stage.name] = replace(stage, runs=own or stage.runs, after=after)
            else:
                left_out[stage.name] = tuple(dict.fromkeys(run.arm or "" for run in stage.runs))
        return replace(self, stages=tuple(kept.values()), left_out=left_out)

    def upstream(self, name: str) -> list[str]:
        """Returns the stages that `name` comes after, directly or through others, in the study's
        order.
        """
        reached: set[str] = set()
        waiting = list(self.stage(name).after)
        while waiting:
            stage = waiting.pop()
            reached.add(stage)
            waiting += self.stage(stage).after
        return [stage.name for stage in self.stages if stage.name in reached]


def names() -> list[str]:
    """Returns the names of the study files in `studies/`, sorted."""
    return sorted(path.stem for path in paths.studies().glob("*.toml"))


def find(name: str) -> Path:
    """Returns the path of a study by its name or its path. Raises DarkroomError, with a suggestion,
    when there is none.
    """
    path = paths.typed(name if name.endswith(".toml") else paths.studies() / f"{name}.toml")
    if not path.is_file():
        raise unknown("study", name, names())
    return path


def write(study: Study, *, command: str) -> None:
    """Writes `study.json` into the study's folder: question, stages with what they come after, all
    runs, and the arms' titles, also of arms that `--arm` leaves out now.
    """
    titles = record.study_info(study.folder).get("titles", {})
    content = {
        "study": study.name,
        "file": str(study.path.resolve()),
        "settings": dict(study.settings),
        "tiny": study.tiny,
        "seeds": list(study.seeds),
        "titles": titles | {run.arm: run.title for run in study.runs() if run.arm and run.title},
        "question": study.question,
        "data": study.data,
        "command": command,
        "budget_minutes": study.budget_minutes,
        "published": study.published,
        "stages": [
            {
                "name": stage.name,
                "notebook": stage.notebook.name,
                "after": list(stage.after),
                "upstream": study.upstream(stage.name),
                "units": [run.name for run in stage.runs],
            }
            for stage in study.stages
        ],
        "written": time.time(),
    }
    files.write_json(paths.logs() / study.folder / record.STUDY, hashing.sealed(content))


def read(
    name: str,
    *,
    settings: Mapping[str, str] | None = None,
    tiny: bool = False,
    seeds: Sequence[int] | None = None,
    arms: Sequence[str] = (),
) -> Study:
    """Returns the study `name` (or the file at that path), filled in and checked.

    Args:
        settings: parameter, or stage.parameter, → value as typed with `--set`.
        tiny: take the study's small twin, which goes to a folder of its own.
        seeds: in place of those of every stage that has seeds.
        arms: the study is `narrowed` to these.

    Raises:
        DarkroomError: the file, a parameter, an arm or a setting is wrong; it says which and how to
            fix it.
    """
    path = find(name)
    content = _read_extended(path)
    used = _notebooks(content, path.name)
    declared = {name: row for notebook in used for name, row in notebook.parameters.items()}
    typed = _typed(settings or {}, content["stage"], used, path.name)
    shared, small = content.get("shared", {}), content.get("tiny", {})
    _check_published(content.get("published", {}), path.name)
    _check_general(shared, small, declared, path.name)
    if "data" in shared:
        declared["data"].check(shared["data"])
    given = next((values["data"] for values in typed.values() if "data" in values), None)
    data = given or shared.get("data")
    general = General(
        folder=_folder(path.stem, given=given, own=shared.get("data"), tiny=tiny),
        shared=shared,
        tiny_parameters=small.get("parameters", {}) if tiny else {},
        typed=typed,
        seeds=list(seeds) if seeds else small.get("seeds") if tiny else None,
        tiny=tiny,
        arms=arms,
    )
    stages: list[Stage] = []
    for table, notebook in zip(content["stage"], used, strict=True):
        where = f"stage {table['name']!r} of {path.name}"
        stages.append(_stage(table, notebook, general, earlier=stages, where=where))
    _check_compared_arms(stages, path.name)
    whole = Study(
        path.stem,
        path,
        general.folder,
        content.get("question", ""),
        content.get("budget_minutes"),
        data,
        tuple(stages),
        published=_published_of(content.get("published", {}), data),
        settings=dict(settings or {}),
        tiny=tiny,
        seeds=tuple(seeds or ()),
    )
    return whole.narrowed(arms)


def _check_compared_arms(stages: Sequence[Stage], where: str) -> None:
    for run in (run for stage in stages for run in stage.runs if "ensembles" in run.parameters):
        named = run.parameters["stages"]
        known = sorted({str(arm.arm) for one in stages if one.name in named for arm in one.runs})
        for name, arms in run.parameters["ensembles"].items():
            for arm in arms if known else ():
                check_choice(f"ensemble {name!r}", arm, known, where=where)


def _read_extended(path: Path, *, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Returns a study file's content over that of the study which it extends.

    Its entries replace those of the extended one: tables key by key, stages by name.
    """
    content = parameter_grid.read_toml(path)
    parameter_grid.check_keys(content, _STUDY, where=path.name)
    for number, table in enumerate(content.get("stage", ()), start=1):
        called = table.get("name", number) if isinstance(table, dict) else number
        parameter_grid.check_keys(table, _STAGE, where=f"stage {called!r} of {path.name}")
    if "extends" not in content:
        return content
    parent = find(content.pop("extends"))
    if parent.resolve() in [other.resolve() for other in (*below, path)]:
        raise DarkroomError(f"{path.name} extends {parent.name}, which extends {path.name}.")
    return _over(_read_extended(parent, below=(*below, path)), content)


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if key == "stage" and isinstance(value, list):
            named = {stage.get("name"): stage for stage in old or ()}
            own = {stage.get("name"): stage for stage in value}
            whole[key] = list(_over(named, own).values())
        elif isinstance(value, dict) and isinstance(old, dict):
            whole[key] = _over(old, value)
        else:
            whole[key] = value
    return whole


def _notebooks(content: dict[str, Any], where: str) -> list[Notebook]:
    if not content.get("stage"):
        raise DarkroomError(
            f"{where} has no stage. Add at least one [[stage]] with `name` and `notebook`."
        )
    for number, table in enumerate(content["stage"], start=1):
        if missing := [key for key in ("name", "notebook") if key not in table]:
            raise DarkroomError(
                f"Stage {number} of {where} has no `{missing[0]}`. Add it, such as "
                'name = "train" and notebook = "3_train".'
            )
    return [notebooks.find(table["notebook"]) for table in content["stage"]]


def _typed(
    settings: Mapping[str, str],
    stages: Sequence[Mapping[str, Any]],
    used: Sequence[Notebook],
    where: str,
) -> dict[str, dict[str, Any]]:
    """Returns stage → parameter → value for what was typed with `--set`.

    Every stage whose notebook has the parameter reads the text by its own declaration.
    """
    names = [table["name"] for table in stages]
    typed: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, text in settings.items():
        stage, dot, name = key.rpartition(".")
        if dot:
            check_choice(f"stage of --set {key}", stage, names, where=where)
        parameter_grid.refuse_reserved([name], where="--set")
        chosen = {
            called: notebook.parameters
            for called, notebook in zip(names, used, strict=True)
            if stage in ("", called)
        }
        if not any(name in declared for declared in chosen.values()):
            known = sorted({known for declared in chosen.values() for known in declared})
            which = f"The notebook of stage {stage!r}" if stage else f"No notebook of {where}"
            verb = "has no" if stage else "has the"
            raise DarkroomError(f"{which} {verb} parameter `{name}`.{suggest(name, known)}")
        for called, declared in chosen.items():
            if name in declared and (stage or name not in typed[called]):  # its own setting wins
                typed[called][name] = declared[name].parse(text)
    return typed


def _check_published(published: dict[str, Any], where: str) -> None:
    """Refuses figures that cannot be: shares beyond 0 to 1, agreements beyond -1 to 1."""
    for name, entry in published.items():
        place = f"[published.{name}] of {where}"
        parameter_grid.check_keys(entry, None, where=place)
        for key, value in entry.items():
            low, high = _PUBLISHED_RANGES.get(key, (-math.inf, math.inf))
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if key in _PUBLISHED_RANGES and not (number and low <= value <= high):
                raise DarkroomError(
                    f"`{key}` of {place} must be a number from {low:g} to {high:g}. "
                    f"Received: {value!r}."
                )


def _published_of(published: dict[str, Any], data: str | None) -> dict[str, Any]:
    """Leaves out figures that name another data set, which would say nothing about these images."""
    return {
        name: {key: value for key, value in entry.items() if key != "data"}
        for name, entry in published.items()
        if entry.get("data") in (None, data)
    }


def _check_general(
    shared: dict[str, Any], small: dict[str, Any], declared: dict[str, Any], where: str
) -> None:
    parameter_grid.check_keys(small, _TINY, where=f"[tiny] of {where}")
    for table, place in ((shared, "[shared]"), (small.get("parameters", {}), "[tiny.parameters]")):
        parameter_grid.refuse_reserved(table, where=f"{place} of {where}")
        for name in table:
            if name not in declared:
                raise DarkroomError(
                    f"{place} of {where} sets `{name}`, which no notebook of the study "
                    f"declares.{suggest(name, list(declared))}"
                )


def _stage(
    table: dict[str, Any], notebook: Notebook, general: General, *, earlier: list[Stage], where: str
) -> Stage:
    name, after = table["name"], tuple(table.get("after", ()))
    if name != notebook.stage:
        raise DarkroomError(
            f"{where} must be named {notebook.stage!r}, as {notebook.name}.ipynb names its runs' "
            "folder."
        )
    before = [stage.name for stage in earlier]
    if name in before:
        raise DarkroomError(
            f"{where} is there twice. A stage is one notebook; give it more arms or seeds instead."
        )
    for other in after:
        check_choice("after", other, before, where=where)
    if "runs" in notebook.reads and not after:
        raise DarkroomError(
            f"{where} reads the runs of other stages, so it needs `after`, such as after = "
            f"{before[-1:]!r}."
        )
    runs = parameter_grid.expand(table, notebook, general, where=where)
    return Stage(name, notebook, after, _resources(table, where), runs)


def _resources(table: dict[str, Any], where: str) -> Resources:
    given = {name: table[name] for name in Resources.__dataclass_fields__ if name in table}
    for name, value in given.items():
        if not 0 <= value < math.inf or (value == 0 and name != "gpus"):
            raise DarkroomError(
                f"`{name}` of {where} must be above 0 and finite. Received: {value!r}."
            )
    return Resources(**given)


def _folder(name: str, *, given: str | None, own: str | None, tiny: bool) -> str:
    """The study's folder; that of other data than the study's own carries the data set's name."""
    base = name + paths.TINY if tiny else name
    if given is not None:
        given = parameter_grid.data_name(given)
        if own is None or given != parameter_grid.data_name(own):
            base = f"{base}@{given}"
    paths.run(base, "stage", "unit")  # refuses a name that cannot be a folder
    return base
