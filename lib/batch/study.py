"""The study file: one question, the notebooks that answer it, the arms that are compared, the
seeds.

`read` returns a study with every parameter of every run filled in and checked; nothing has been
started by then. What stands later here wins: the notebook's defaults, `[shared]`, the stage's
`parameters`, the arm, `[tiny.parameters]`, what was typed with `--set`, and last what the suite
itself fills in (`study`, `arm`, `seed`, `tiny`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lib import notebooks, parameters, paths
from lib.batch import parameter_grid
from lib.batch.parameter_grid import General, Unit
from lib.errors import DarkroomError, suggest
from lib.notebooks import Notebook

_STUDY = {
    "question": str,
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
    "cores": (int, float),
    "gpus": int,
    "memory_gb": (int, float),
    "time_limit_minutes": (int, float),
}
_TINY = {"seeds": list, "parameters": dict}


@dataclass(frozen=True)
class Resources:
    """What one run of a stage needs. None means: what the machine has, shared among the runs at
    work.
    """

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
    units: tuple[Unit, ...]


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
    """What was typed with `--set`."""
    tiny: bool = False

    def units(self) -> list[Unit]:
        """Returns all runs, in the order of the stages."""
        return [unit for stage in self.stages for unit in stage.units]

    def stage(self, name: str) -> Stage:
        """Returns one stage by its name. Raises DarkroomError for a name that is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise DarkroomError(
            f"{self.path.name} has no stage {name!r}.{suggest(name, names)} Its stages: "
            f"{', '.join(names)}."
        )

    def narrowed(self, arms: Sequence[str]) -> Study:
        """Returns the study with only these arms, in the stages that have one of them; all of it
        for none.

        Raises DarkroomError for an arm that no stage has.
        """
        known = [unit.arm for unit in self.units() if unit.arm]
        for arm in arms:
            if arm not in known:
                told = ", ".join(dict.fromkeys(known)) or "none"
                raise DarkroomError(
                    f"{self.path.name} has no arm {arm!r}.{suggest(arm, known)} Its arms: {told}."
                )
        stages = []
        for stage in self.stages:
            chosen = tuple(unit for unit in stage.units if unit.arm in arms)
            stages.append(replace(stage, units=chosen or stage.units))
        return replace(self, stages=tuple(stages))

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
        raise DarkroomError(
            f"There is no study {name!r}.{suggest(name, names())} There are: "
            f"{', '.join(names()) or 'none'}."
        )
    return path


def read(name: str, *, settings: Mapping[str, str] | None = None, tiny: bool = False) -> Study:
    """Returns the study `name` (or the file at that path), filled in and checked.

    Args:
        settings: parameter → value as typed with `--set`, read by the notebook's own declaration.
        tiny: take the study's small twin, which goes to a folder of its own.

    Raises:
        DarkroomError: the file, a parameter, an arm or a setting is wrong; it says which and how to
            mend it.
    """
    path = find(name)
    content = parameter_grid.read_toml(path)
    parameter_grid.check_keys(content, _STUDY, where=path.name)
    used = _notebooks(content, path.name)
    declared = {
        name: parameter for notebook in used for name, parameter in notebook.parameters.items()
    }
    typed = _typed(settings or {}, declared, path.name)
    shared, small = content.get("shared", {}), content.get("tiny", {})
    _check_general(shared, small, declared, path.name)
    if "data" in shared:
        declared["data"].check(shared["data"])
    data = typed.get("data", shared.get("data"))
    general = General(
        folder=_folder(path.stem, data=data, own=shared.get("data"), tiny=tiny),
        shared=shared,
        forced=(small.get("parameters", {}) if tiny else {}) | typed,
        seeds=small.get("seeds") if tiny else None,
        tiny=tiny,
    )
    stages: list[Stage] = []
    for table, notebook in zip(content["stage"], used, strict=True):
        stages.append(
            _stage(
                table,
                notebook,
                general,
                earlier=stages,
                where=f"stage {table['name']!r} of {path.name}",
            )
        )
    return Study(
        path.stem,
        path,
        general.folder,
        content.get("question", ""),
        content.get("budget_minutes"),
        data,
        tuple(stages),
        published=content.get("published", {}),
        settings=dict(settings or {}),
        tiny=tiny,
    )


def _notebooks(content: dict[str, Any], where: str) -> list[Notebook]:
    if not content.get("stage"):
        raise DarkroomError(
            f"{where} has no stage. Add at least one [[stage]] with `name` and `notebook`."
        )
    for number, table in enumerate(content["stage"], start=1):
        called = table.get("name", number) if isinstance(table, dict) else number
        parameter_grid.check_keys(table, _STAGE, where=f"stage {called!r} of {where}")
        if missing := [key for key in ("name", "notebook") if key not in table]:
            raise DarkroomError(
                f'Stage {number} of {where} has no `{missing[0]}`. Add it, such as name = "train" and notebook = "3_train".'
            )
    return [notebooks.find(table["notebook"]) for table in content["stage"]]


def _typed(
    settings: Mapping[str, str], declared: dict[str, parameters.Parameter], where: str
) -> dict[str, Any]:
    parameter_grid.refuse_reserved(settings, where="--set")
    for name in settings:
        if name not in declared:
            raise DarkroomError(
                f"No notebook of {where} has the parameter `{name}`.{suggest(name, list(declared))}"
            )
    return {name: declared[name].parse(text) for name, text in settings.items()}


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
        if other not in before:
            raise DarkroomError(
                f"{where} comes after {other!r}, which is no earlier "
                f"stage.{suggest(str(other), before)} "
                f"Earlier stages: {', '.join(before) or 'none'}."
            )
    if "runs" in notebook.reads and not after:
        raise DarkroomError(
            f"{where} reads the runs of other stages, so it needs `after`, such as after = "
            f"{before[-1:]!r}."
        )
    return Stage(
        name,
        notebook,
        after,
        _resources(table, where),
        parameter_grid.units(table, notebook, general, where=where),
    )


def _resources(table: dict[str, Any], where: str) -> Resources:
    asked = {name: table[name] for name in Resources.__dataclass_fields__ if name in table}
    for name, value in asked.items():
        if not 0 <= value < math.inf or (value == 0 and name != "gpus"):
            raise DarkroomError(
                f"`{name}` of {where} must be above 0 and finite. Received: {value!r}."
            )
    return Resources(**asked)


def _folder(name: str, *, data: str | None, own: str | None, tiny: bool) -> str:
    base = f"{name}+tiny" if tiny else name
    other = (
        data is not None
        and own is not None
        and parameter_grid.data_name(data) != parameter_grid.data_name(own)
    )
    folder = f"{base}@{parameter_grid.data_name(data)}" if other else base
    paths.run(folder, "stage", "unit")  # refuses a name that cannot be a folder
    return folder
