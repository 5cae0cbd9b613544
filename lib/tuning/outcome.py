"""What a search leaves: tables, the winner as an arm, KerasTuner's files, and what should not be
believed without a look.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib import files
from lib.tuning import config, trials
from lib.tuning.plan import Found
from lib.tuning.retraining import Verdict


def write(found: Found, folder: Path) -> Path:
    """Writes `trials.csv`, one row a trial and epoch, and KerasTuner's files where its oracle
    proposed; returns the path.
    """
    path = folder / "trials.csv"
    files.write_text(path, trials.by_epoch(found.trials).to_csv(index=False, lineterminator="\n"))
    if hasattr(found.method, "export"):
        (folder / "keras_tuner").mkdir(exist_ok=True)
        found.method.export(folder / "keras_tuner")
    return path


def doubts(found: Found) -> list[str]:
    """Returns what limits the search, in sentences: a best value at an end of its range, failures,
    an early end.
    """
    told = []
    for name, end in found.plan.space.at_edge(found.best.values).items():
        if (
            end == "lowest" and found.best.values[name] == 0
        ):  # no dropout, no decay: there is nothing below nothing
            continue
        way = "lower" if end == "lowest" else "higher"
        told.append(
            f"The best {name}, {found.best.values[name]!r}, lies at the {end} end of what was "
            f"searched: look {way} still."
        )
    failed = [trial for trial in found.trials if trial.state == "failed"]
    if failed:
        kinds = sorted({trial.failure["kind"] for trial in failed if trial.failure})
        told.append(
            f"{len(failed)} of {len(found.trials)} trials failed ({', '.join(kinds)}); trials.csv "
            "says which."
        )
    if not found.complete:
        told.append(
            "The budget ended the search early; with a larger one the same command goes on."
        )
    return told


def arm(verdict: Verdict, base: Mapping[str, Any], folder: Path, *, name: str = "tuned") -> Path:
    """Writes the winning parameters as an arm, `winner.toml`, to be put under the training stage of
    a study.
    """
    from lib import schema

    defaults = schema.find(config.TRAINING).defaults()
    whole = config.filled(base, verdict.winner.values)
    changed = {
        key: value for key, value in whole.items() if key in defaults and value != defaults[key]
    }
    changed = {
        key: value for key, value in changed.items() if key not in config.OF_SUITE
    } | verdict.winner.values
    head = "".join(f"# {line}\n" for line in verdict.told.splitlines())
    path = folder / "winner.toml"
    files.write_text(path, head + config.written(changed, arm=name))
    return path


def result(found: Found, verdict: Verdict) -> dict[str, Any]:
    """Returns what `result.json` says of a search; search score, retrained score and test score
    stand apart.
    """
    goal = next(iter(found.plan.goals))
    name = verdict.winner.name
    numbers = {
        "search_score": found.best.scores[goal],
        "retrained_val_accuracy": verdict.val[name].value,
        "test_accuracy": verdict.test[name].value,
        "untuned_test_accuracy": verdict.test["untuned"].value,
        "trials": len(found.trials),
    }
    return {
        "metrics": numbers,
        "winner": verdict.winner.values,
        "winner_is_shown": verdict.shown,
        "verdict": verdict.told,
        "method": found.plan.method,
        "goals": dict(found.plan.goals),
        "complete": found.complete,
        "search_seconds": found.seconds,
        "space": found.plan.space.spec(),
        "doubts": doubts(found),
        "states": {
            state: sum(trial.state == state for trial in found.trials) for state in trials.STATES
        },
    }
