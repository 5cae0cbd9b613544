"""Builds a search plan from the parameters of `4_tune`, without loading Keras.

Every hyperparameter is a parameter of `3_train`, has values that it allows, and takes effect in at
least one trial; anything else is refused before the search starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from lib import parameter_table, parameter_types
from lib.data import intake
from lib.errors import DarkroomError
from lib.parameter_types import Parameter
from lib.tuning import methods, space
from lib.tuning.search_method import OPTUNA, Plan
from lib.tuning.space import Hyperparameter, Space

TRAINING = "3_train"
"""The notebook whose parameters are searched."""
GOALS = {"val_accuracy": "max", "val_loss": "min", "num_parameters": "min", "seconds": "min"}
"""The possible goals with their directions."""
OBJECTIVE = "lib.tuning.objective:objective"
DATA = ("data", "target", "split_method", "fractions", "split_seed", "limit_per_class")
"""Parameters that decide which images a trial sees."""
FIXED = {
    **dict.fromkeys(("study", "arm", "tiny", "seed", "tuned_on"), "the suite sets it"),
    **dict.fromkeys(DATA, "trials on different images cannot be compared"),
    "epochs": "the method decides how long a trial is trained; set `epochs` of 4_tune",
    "monitor": "the first of `goals` decides which epoch is kept",
}
"""Parameters of `3_train` that can be neither searched nor set in `base`, and why."""
_TINY = {"image_side": 32, "limit_per_class": 24, "epochs": 2}


def check(values: Mapping[str, Any], *, where: str = "4_tune") -> None:
    """Raises DarkroomError for parameters of `4_tune` that do not make a search.

    Studies are checked by it before anything runs.
    """
    plan = make_plan(values, where=where)
    methods.check(plan)
    seeds, search_seed = values["retrain_seeds"], values["search_seed"]
    if not seeds or len(set(seeds)) != len(seeds) or search_seed in seeds:
        raise DarkroomError(
            f"`retrain_seeds` of {where} must be different seeds, none of them the search's "
            f"({search_seed}), because that seed selected the trials. Received: {seeds}."
        )


def make_plan(values: Mapping[str, Any], *, where: str = "4_tune", data: str = "") -> Plan:
    """Returns the search plan of the parameters; `data` is a digest of the images and their split.

    Raises DarkroomError for a hyperparameter that is not a parameter of `3_train`, has a value
    that it does not allow, or would have no effect.
    """
    base = base_parameters(values, where=where)
    searched = space.read(values["space"], where=f"`space` of {where}")
    if values["tiny"] and len(searched.hyperparameters) > 1:  # the tiny side is fixed
        kept = [item for item in searched.hyperparameters if item.name != "image_side"]
        searched = Space(tuple(kept))
    searched = _with_conditions(_checked(searched, where), base, where)
    unknown = [goal for goal in values["goals"] if goal not in GOALS]
    if unknown or not values["goals"]:
        raise DarkroomError(
            f"`goals` of {where} must be among {', '.join(GOALS)}. "
            f"Received: {unknown[0] if unknown else 'none'!r}."
        )
    goals = {goal: GOALS[goal] for goal in values["goals"]}
    first = next(iter(goals))
    epochs, num_trials = values["epochs"], values["num_trials"]
    if values["tiny"]:
        epochs, num_trials = min(epochs, _TINY["epochs"]), min(num_trials, 4)
    return Plan(
        space=searched,
        method=values["method"],
        objective=OBJECTIVE,
        goals=goals,
        epochs=epochs,
        num_trials=num_trials if values["method"] in OPTUNA else 0,
        seed=values["search_seed"],
        options=values["method_options"],
        settings={
            "base": base,
            "epochs": epochs,
            "seed": values["search_seed"],
            "monitor": first if first in ("val_accuracy", "val_loss") else "val_loss",
            "data": data,
        },
    )


def base_parameters(values: Mapping[str, Any], *, where: str = "4_tune") -> dict[str, Any]:
    """Returns all parameters of `3_train` for the untuned training."""
    training = parameter_table.find(TRAINING)
    for name in values["base"]:
        if name in FIXED:
            raise DarkroomError(f"`base` of {where} must not set `{name}`: {FIXED[name]}.")
    own = parameter_types.check(values["base"], training.parameters, where=f"`base` of {where}")
    base = {**training.defaults(), **own, **{name: values[name] for name in DATA}}
    base["data"] = intake.name_of(values["data"])  # trials open the data set by its name
    _check_effects(base, values["space"])
    if values["tiny"]:
        for name in ("image_side", "limit_per_class"):
            base[name] = min(base[name] or _TINY[name], _TINY[name])
    return base


def trial_parameters(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all parameters of one trial; inactive ones have their defaults."""
    whole, defaults = {**base, **values}, parameter_table.find(TRAINING).defaults()
    return {
        name: value if parameter_table.is_active(name, whole) else defaults[name]
        for name, value in whole.items()
    }


def _checked(searched: Space, where: str) -> Space:
    known = parameter_table.TRAINING
    items = []
    for item in searched.hyperparameters:
        if item.name in FIXED:
            raise DarkroomError(f"`{item.name}` of {where} cannot be searched: {FIXED[item.name]}.")
        example = (item.choices or (item.low,))[0]
        parameter_types.check({item.name: example}, known, where=f"`space` of {where}")
        items.append(_cast(item, known[item.name]))
    return Space(tuple(items))


def _cast(item: Hyperparameter, parameter: Parameter) -> Hyperparameter:
    """The hyperparameter in the parameter's type; refuses values that the parameter does not."""
    if item.kind == "choice":
        choices = tuple(parameter.check(value) for value in item.choices)
        return dataclasses.replace(item, choices=choices)
    low, high = parameter.check(item.low), parameter.check(item.high)
    if parameter.type == "float" and item.kind == "int":
        step = None if item.step is None else float(item.step)
        return dataclasses.replace(item, kind="float", low=low, high=high, step=step)
    return dataclasses.replace(item, low=low, high=high)


def _with_conditions(searched: Space, base: Mapping[str, Any], where: str) -> Space:
    """Adds the conditions of `3_train`'s parameters; refuses what would have no effect."""
    items = []
    for item in searched.hyperparameters:
        parent, allowed = parameter_table.TRAINING[item.name].when or ("", ())
        if parent not in searched:
            if parent and base[parent] not in allowed:
                raise DarkroomError(
                    f"`{item.name}` of {where} would have no effect: it is active only with "
                    f"{parent} = {_either(allowed)}, and `base` has {base[parent]!r}. Change or "
                    f"search {parent}, or remove {item.name}."
                )
            items.append(item)
            continue
        choices = searched[parent].choices
        active = tuple(value for value in choices if value in allowed)
        if not active:
            raise DarkroomError(
                f"`{item.name}` of {where} would have no effect: it is active only with {parent} = "
                f"{_either(allowed)}, and the searched choices of {parent} are "
                f"{', '.join(map(str, choices))}."
            )
        own = item.when.get(parent, active)
        if set(own) - set(active):
            raise DarkroomError(
                f"`{item.name}` of {where} is active only with {parent} = {_either(active)}. "
                f"Received: {own}."
            )
        if len(active) < len(choices):
            item = dataclasses.replace(item, when={**item.when, parent: own})
        items.append(item)
    # Reading it again sorts parents first and finds circles.
    return space.read(Space(tuple(items)).spec(), where=where)


def _check_effects(base: Mapping[str, Any], table: Any) -> None:
    """Refuses parameters of `base` that are active in no trial."""
    entries = table if isinstance(table, Mapping) else {}
    choices = {
        name: entry.get("choices") if isinstance(entry, Mapping) else entry
        for name, entry in entries.items()
    }
    for name, parameter in parameter_table.TRAINING.items():
        parent, allowed = parameter.when or ("", ())
        searched = choices.get(parent)
        searched = searched if isinstance(searched, list | tuple) else ()
        if parent and not any(value in allowed for value in searched):
            parameter_types.check_conditions(
                {name: base[name], parent: base[parent]}, parameter_table.TRAINING
            )


def _either(values: Sequence[Any]) -> str:
    return " or ".join(map(repr, values))
