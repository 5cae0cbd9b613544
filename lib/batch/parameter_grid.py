"""The grid of arms and seeds: all runs of a stage with their parameters."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import parameter_types, paths, runs
from lib.errors import DarkroomError, check_choice, suggest, unknown
from lib.notebooks import Notebook


@dataclass(frozen=True)
class RunSpec:
    """One run: a notebook with all its parameters. `name` is `all`, `<arm>` or `<arm>-s<seed>`."""

    stage: str
    name: str
    arm: str | None
    seed: int | None
    parameters: dict[str, Any]
    title: str = ""
    """The arm's name for people."""

    @property
    def id(self) -> str:
        """`<stage>/<name>`, unique in the study."""
        return f"{self.stage}/{self.name}"


@dataclass(frozen=True)
class General:
    """Values for every stage of a study whose notebook declares them."""

    folder: str
    """The study's folder in `logs/`, and the value of the parameter `study`."""
    shared: dict[str, Any]
    tiny_parameters: dict[str, Any]
    """From `[tiny.parameters]`; they win over the arms."""
    typed: dict[str, dict[str, Any]]
    """Stage → parameter → value from `--set`, which wins over everything."""
    seeds: list[int] | None
    """Instead of the stage's own."""
    tiny: bool
    arms: Sequence[str] = ()
    """Those that run; the others need not differ, nor be possible with what was typed."""


def expand(
    table: dict[str, Any], notebook: Notebook, general: General, *, where: str
) -> tuple[RunSpec, ...]:
    """Returns the runs of a stage, seed by seed, so that every arm has a first run early.

    `table` is the stage's table of the study file. Raises DarkroomError for arms, seeds or values
    that cannot be.
    """
    declared = notebook.parameters
    arms, own = table.get("arms", {}), table.get("parameters", {})
    if arms and "arm" not in declared:
        raise DarkroomError(
            f"{where}: {notebook.name}.ipynb takes no arms, since it declares no parameter `arm`."
        )
    if not arms and {"arm", "seed"} <= declared.keys():
        raise DarkroomError(f"{where}: {notebook.name}.ipynb needs arms, [stage.arms.<name>].")
    refuse_reserved(own, where=f"`parameters` of {where}")
    shared = {name: value for name, value in general.shared.items() if name in declared}
    base = notebook.defaults() | parameter_types.check(shared | own, declared, where=where)
    small = general.tiny_parameters.items()
    forced = {name: value for name, value in small if name in declared}
    forced |= general.typed[table["name"]]
    forced = parameter_types.check(forced, declared, where=where)
    base |= {"study": general.folder, "tiny": general.tiny}
    titles = {arm: _title(changes) for arm, changes in arms.items()}
    if arms:
        wanted = {*general.arms} & {*arms} or {*arms}
        filled = _arms(arms, base, forced, wanted=wanted, notebook=notebook, where=where)
    else:
        filled = {None: _complete(base | forced, notebook, where=where)}
    if "ablation_of" in table and len(filled) == len(arms):
        others = table.get("other_arms", [])
        for arm in others:
            check_choice("other_arms", arm, arms, where=where)
        ablated = {arm: values for arm, values in filled.items() if arm not in others}
        _refuse_confounded(
            ablated, table["ablation_of"], table.get("combinations", []), where=where
        )
    specs = []
    for seed in _seeds(table, general, notebook, where=where):
        marks = {} if seed is None else dict.fromkeys(("seed", *table.get("seed_sets", [])), seed)
        for arm, values in filled.items():
            whole = {**values, **marks} | ({"arm": arm} if arm else {})
            whole = {name: whole[name] for name in declared}
            name, title = runs.unit(whole), titles.get(arm, "")
            specs.append(RunSpec(table["name"], name, arm, seed, whole, title))
    return tuple(specs)


def _title(changes: Any) -> str:
    title = changes.get("title", "") if isinstance(changes, dict) else ""
    if not isinstance(title, str):
        raise DarkroomError(f"The `title` of an arm must be text. Received: {title!r}.")
    return title


def data_name(data: str) -> str:
    """Returns the data set's name for `data`, a name or a path."""
    if re.fullmatch(r"[\w+@-]*", data):
        return data
    from lib.data import intake

    return intake.name_of(data)


def check_data(data: str) -> None:
    """Raises DarkroomError where `data` is neither a data set here, nor a packaged one, nor a path
    that leads to something.
    """
    from lib.data import dataset, sources

    name, known = data.removesuffix(paths.TINY), [*dataset.names(), *sources.PACKAGED]
    if name not in known and data not in known and not paths.typed(name).exists():
        hint = "Give the name of one, or the path of a folder, table or archive."
        raise unknown("data set", name, known, hint=hint)


def _arms(
    arms: Mapping[str, Any],
    base: dict[str, Any],
    forced: dict[str, Any],
    *,
    wanted: Collection[str],
    notebook: Notebook,
    where: str,
) -> dict[str | None, dict[str, Any]]:
    """Every arm's parameters. No two of those `wanted` may be equal, and at most one, the baseline,
    changes nothing; another is left out where it cannot be.
    """
    filled: dict[str | None, dict[str, Any]] = {}
    arm_of: dict[str, str] = {}
    for arm, changes in arms.items():
        place = f"arm {arm!r} of {where}"
        check_keys(changes, None, where=place)
        refuse_reserved(changes, where=place)
        paths.run("study", "stage", arm)  # refuses a name that cannot be a folder
        changes = {name: value for name, value in changes.items() if name != "title"}
        own = parameter_types.check(changes, notebook.parameters, where=place)
        try:
            values = _complete(base | own | forced, notebook, where=place)
        except DarkroomError:
            if arm in wanted:
                raise
            continue
        if arm not in wanted:
            filled[arm] = values
            continue
        written = json.dumps(values, sort_keys=True)
        if written in arm_of:
            overruled = sorted(set(changes) & set(forced))
            cause = f" --set or [tiny] overrules its {', '.join(overruled)}." if overruled else ""
            raise DarkroomError(
                f"{place} is the same as the arm {arm_of[written]!r}.{cause} Let it change "
                "something, or take it out."
            )
        arm_of[written] = arm
        filled[arm] = values
    return filled


def _complete(values: dict[str, Any], notebook: Notebook, *, where: str) -> dict[str, Any]:
    """Returns the values with the data set's name for its path, and other paths absolute; raises
    DarkroomError where they contradict each other.
    """
    try:
        values = notebook.located(values)
        if values.get("data"):
            values["data"] = data_name(values["data"])
        notebook.verify(values)
    except DarkroomError as error:
        raise DarkroomError(f"{where}: {error}") from None
    return values


def _refuse_confounded(
    filled: Mapping[str | None, dict[str, Any]],
    baseline: str,
    combinations: list[str],
    *,
    where: str,
) -> None:
    """In an ablation every other arm changes one parameter of the baseline, so that its effect has
    one cause.

    An arm that the study declares a combination changes several, each to what an arm of its own
    changes it to.
    """
    check_choice("ablation_of", baseline, filled, where=where)
    for arm in combinations:
        others = [name for name in filled if name != baseline]
        check_choice("combinations", arm, others, where=where)
    changed = {
        arm: {name: value for name, value in values.items() if value != filled[baseline][name]}
        for arm, values in filled.items()
    }
    singles = [
        change for arm in changed if arm not in combinations for change in changed[arm].items()
    ]
    for arm, changes in changed.items():
        alone = [name for name, value in changes.items() if (name, value) not in singles]
        if alone:
            raise DarkroomError(
                f"arm {arm!r} of {where} is declared a combination and changes {alone[0]} as no "
                "single arm does. Make an arm of that change, too."
            )
        if arm not in (*combinations, baseline) and len(changes) != 1:
            raise DarkroomError(
                f"arm {arm!r} of {where} changes {', '.join(changes)} of {baseline!r}; in an "
                "ablation an arm changes one thing. Make one arm of each, name it among "
                "`combinations` or `other_arms`, or take `ablation_of` out."
            )


def _seeds(
    table: dict[str, Any], general: General, notebook: Notebook, *, where: str
) -> list[int | None]:
    if "seed" not in notebook.parameters:
        if "seeds" in table:
            raise DarkroomError(
                f"{where} has seeds, but {notebook.name}.ipynb declares no parameter `seed`."
            )
        return [None]
    seeds = table.get("seeds", [0]) if general.seeds is None else general.seeds
    are_good = all(type(seed) is int and seed >= 0 for seed in seeds)
    if not seeds or not are_good or len(set(seeds)) != len(seeds):
        raise DarkroomError(
            f"`seeds` of {where} must be different integers from 0 on, such as [0, 1, 2]. "
            f"Received: {seeds!r}."
        )
    ints = [name for name, parameter in notebook.parameters.items() if parameter.type == "int"]
    for name in table.get("seed_sets", []):
        check_choice("seed_sets", name, ints, where=where)
    return list(seeds)


RESERVED = ("study", "arm", "seed", "tiny")
"""Parameters that only the suite itself fills in."""


def read_toml(path: Path) -> dict[str, Any]:
    """Returns a TOML file's content. Raises DarkroomError, with the line, when it is unreadable."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise DarkroomError(f"{path.name} is not written in UTF-8. Save it as UTF-8.") from None
    # Also numbers of thousands of digits, and lists in lists without end.
    except (ValueError, RecursionError) as error:
        raise DarkroomError(f"{path.name} is not TOML: {error}.") from None


def check_keys(table: Any, allowed: Mapping[str, Any] | None, *, where: str) -> None:
    """Raises DarkroomError unless `table` is a table whose keys and types `allowed` names (None:
    any keys).
    """
    if not isinstance(table, dict):
        raise DarkroomError(f"{where} must be a table. Received: {table!r}.")
    for key, value in table.items() if allowed is not None else ():
        if key not in allowed:
            raise DarkroomError(
                f"{where} does not know `{key}`.{suggest(key, list(allowed))} It knows: "
                f"{', '.join(allowed)}."
            )
        if not isinstance(value, allowed[key]) or isinstance(value, bool):
            raise DarkroomError(f"`{key}` of {where} has the wrong type. Received: {value!r}.")


def refuse_reserved(table: Mapping[str, Any], *, where: str) -> None:
    """Raises DarkroomError when `table` sets a parameter that only the suite itself fills in."""
    if taken := [name for name in table if name in RESERVED]:
        raise DarkroomError(
            f"{where} must not set `{taken[0]}`: the suite fills it in from study, arms, seeds and "
            "--tiny."
        )
