"""From the parameters of `4_tune` to a plan: every key is one of `3_train`'s and changes something.
No Keras is loaded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from lib import parameters, schema
from lib.data.sources import intake
from lib.errors import DarkroomError
from lib.parameters import Parameter
from lib.tuning import methods, space
from lib.tuning.hyperparameter import Key
from lib.tuning.plan import Plan
from lib.tuning.space import Space

TRAINING = "3_train"
"""The notebook whose parameters are searched."""
GOALS = {"val_accuracy": "max", "val_loss": "min", "num_parameters": "min", "seconds": "min"}
"""What may be sought, and which way."""
OBJECTIVE = "lib.tuning.objective:objective"
_DATA = ("data", "target", "split_method", "fractions", "split_seed", "limit_per_class")
OF_SUITE = {
    **dict.fromkeys(("study", "arm", "tiny", "seed"), "the suite fills it in"),
    **dict.fromkeys(_DATA, "trials on different images cannot be compared"),
    "epochs": "the method decides how long a trial is trained; give `epochs` of 4_tune",
    "monitor": "the first of `goals` decides which epoch is kept",
}
_TINY = {"image_side": 32, "limit_per_class": 24, "epochs": 2}


def check(values: Mapping[str, Any], *, where: str = "4_tune") -> None:
    """Raises DarkroomError for parameters of `4_tune` that make no search; batch calls it before
    anything runs.
    """
    planned = plan(values, where=where)
    methods.check(
        planned.method,
        planned.space,
        goals=planned.goals,
        epochs=planned.epochs,
        num_trials=planned.num_trials,
        options=planned.options,
    )
    seeds = values["retrain_seeds"]
    if not seeds or len(set(seeds)) != len(seeds) or values["search_seed"] in seeds:
        raise DarkroomError(
            f"`retrain_seeds` of {where} must be different seeds, without that of the search "
            f"({values['search_seed']}), whose "
            f"luck chose the trials. Received: {seeds}."
        )


def plan(values: Mapping[str, Any], *, where: str = "4_tune", data: str = "") -> Plan:
    """Returns the plan that parameters of `4_tune` stand for; `data` is the digest of the images
    and their split.

    Raises DarkroomError for a key that is no parameter of `3_train`, has an impossible value, or
    would change nothing.
    """
    shared = base(values, where=where)
    searched = space.read(values["space"], where=f"`space` of {where}")
    if values["tiny"] and len(searched.keys) > 1:  # a tiny side is given
        searched = Space(tuple(key for key in searched.keys if key.name != "image_side"))
    searched = _acting(_known(searched, where), shared, where)
    goals = {goal: _direction(goal, where) for goal in dict.fromkeys(values["goals"])}
    if not goals:
        raise DarkroomError(f"`goals` of {where} must name one of {', '.join(GOALS)} at least.")
    first = next(iter(goals))
    epochs = min(values["epochs"], _TINY["epochs"]) if values["tiny"] else values["epochs"]
    monitor = first if first in ("val_accuracy", "val_loss") else "val_loss"
    return Plan(
        space=searched,
        method=values["method"],
        objective=OBJECTIVE,
        goals=goals,
        epochs=epochs,
        num_trials=_num_trials(values),
        seed=values["search_seed"],
        options=values["method_options"],
        context={
            "base": shared,
            "epochs": epochs,
            "seed": values["search_seed"],
            "monitor": monitor,
            "data": data,
        },
    )


def base(values: Mapping[str, Any], *, where: str = "4_tune") -> dict[str, Any]:
    """Returns all parameters of `3_train` as they are where the search changes nothing: the untuned
    training.
    """
    declared = schema.find(TRAINING)
    for name in values["base"]:
        if name in OF_SUITE:
            raise DarkroomError(f"`base` of {where} must not set `{name}`: {OF_SUITE[name]}.")
    own = parameters.check(values["base"], declared.parameters, where=f"`base` of {where}")
    found = {**declared.defaults(), **own, **{name: values[name] for name in _DATA}}
    found["data"] = intake.name_of(
        values["data"]
    )  # trials, in processes of their own, open what has been brought in
    _check_base(found, values["space"])
    if values["tiny"]:
        found |= {
            name: min(found[name] or most, most) for name, most in _TINY.items() if name != "epochs"
        }
    return found


def filled(shared: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters of one trial; what cannot act beside its choices falls back to its
    default.
    """
    whole, defaults = {**shared, **values}, schema.find(TRAINING).defaults()
    return {
        name: value if schema.is_active(name, whole) else defaults[name]
        for name, value in whole.items()
    }


def _known(searched: Space, where: str) -> Space:
    declared = schema.TRAINING
    keys = []
    for key in searched.keys:
        if key.name in OF_SUITE:
            raise DarkroomError(
                f"`{key.name}` of {where} cannot be searched: {OF_SUITE[key.name]}."
            )
        parameters.check(
            {key.name: (key.choices or (key.low,))[0]}, declared, where=f"`space` of {where}"
        )
        keys.append(_in_type(key, declared[key.name]))
    return Space(tuple(keys))


def _in_type(key: Key, parameter: Parameter) -> Key:
    """The key with its values in the declared type; refused are values that the parameter does not
    allow.
    """
    if key.kind == "choice":
        choices = tuple(parameter.check(value) for value in key.choices)
        return dataclasses.replace(key, choices=choices)
    low, high = parameter.check(key.low), parameter.check(key.high)
    if parameter.type == "float" and key.kind == "int":
        step = None if key.step is None else float(key.step)
        return dataclasses.replace(key, kind="float", low=low, high=high, step=step)
    return dataclasses.replace(key, low=low, high=high)


def _acting(searched: Space, shared: Mapping[str, Any], where: str) -> Space:
    """The space with the conditions of `3_train`'s parameters; refused is a key that would change
    nothing.
    """
    keys = []
    for key in searched.keys:
        choice, allowed = schema.TRAINING[key.name].when or ("", ())
        if choice not in searched:
            if choice and shared[choice] not in allowed:
                raise DarkroomError(
                    f"`{key.name}` of {where} would change nothing: it acts only with {choice} = "
                    f"{_either(allowed)}, and "
                    f"`base` says {shared[choice]!r}. Change {choice}, search it too, or leave the "
                    "key out."
                )
            keys.append(key)
            continue
        acting = tuple(value for value in searched[choice].choices if value in allowed)
        if not acting:
            raise DarkroomError(
                f"`{key.name}` of {where} would change nothing: it acts only with {choice} = "
                f"{_either(allowed)}, and of "
                f"{choice} only {', '.join(map(str, searched[choice].choices))} are searched."
            )
        own = key.when.get(choice, acting)
        if set(own) - set(acting):
            raise DarkroomError(
                f"`{key.name}` of {where} acts only with {choice} = {_either(acting)}. Received: "
                f"{own}."
            )
        always = len(acting) == len(searched[choice].choices)
        keys.append(key if always else dataclasses.replace(key, when={**key.when, choice: own}))
    return space.read(
        Space(tuple(keys)).spec(), where=where
    )  # sorts the keys anew, and finds circles


def _check_base(found: Mapping[str, Any], table: Any) -> None:
    """Refuses what can act in no trial; beside a choice that is searched it acts in some."""
    written = table if isinstance(table, Mapping) else {}
    told = {
        name: each.get("choices") if isinstance(each, Mapping) else each
        for name, each in written.items()
    }
    offered = {
        name: each for name, each in told.items() if isinstance(each, list | tuple)
    }  # all else is refused as a space
    for name, parameter in schema.TRAINING.items():
        choice, allowed = parameter.when or ("", ())
        if choice and not any(value in allowed for value in offered.get(choice, ())):
            parameters.check_conditions({name: found[name], choice: found[choice]}, schema.TRAINING)


def _either(values: Sequence[Any]) -> str:
    return " or ".join(map(repr, values))


def _num_trials(values: Mapping[str, Any]) -> int:
    if values["method"] not in methods.SAMPLED:
        return 0
    return min(values["num_trials"], 4) if values["tiny"] else values["num_trials"]


def _direction(goal: str, where: str) -> str:
    if goal not in GOALS:
        raise DarkroomError(
            f"`goals` of {where} must be among {', '.join(GOALS)}. Received: {goal!r}."
        )
    return GOALS[goal]


def written(winner: Mapping[str, Any], *, arm: str) -> str:
    """Returns parameters as an arm in TOML, to be put under the training stage of a study."""
    lines = [
        f"[stage.arms.{arm}]",
        *(f"{name} = {json.dumps(value)}" for name, value in winner.items()),
    ]
    return "\n".join(lines) + "\n"
