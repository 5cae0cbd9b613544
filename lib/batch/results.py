"""All runs of a study as one table, `results.csv` and `results.parquet` in its folder: one row a
run, finished or not.

The columns are those of a run (stage, unit, arm, seed, state, …), then `metrics.*` and
`parameters.*`. What was finished with another key than it would have now says `stale`, and what
changed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import files, paths
from lib.batch import status
from lib.batch.status import Standing

if TYPE_CHECKING:
    from pandas import DataFrame

CSV, PARQUET = "results.csv", "results.parquet"
FIXED = (
    "study",
    "stage",
    "unit",
    "arm",
    "seed",
    "state",
    "seconds",
    "finished",
    "changed",
    "failure",
)


def table(folder: str, found: Sequence[Standing] | None = None) -> DataFrame:
    """Returns one row for each run of the study in `folder`, in the study's order; `found` where
    that is known already.
    """
    import pandas

    rows = [_row(folder, one) for one in (status.judged(folder) if found is None else found)]
    more = sorted({name for row in rows for name in row if name not in FIXED})
    frame = pandas.DataFrame(rows, columns=[*FIXED, *more]).convert_dtypes()
    for name in more:  # a column that mixes numbers and texts cannot be stored
        if frame[name].dtype == object:
            frame[name] = frame[name].astype("string")
    return frame


def write(folder: str, found: Sequence[Standing] | None = None) -> Path:
    """Writes both files and returns the path of `results.csv`."""
    frame = table(folder, found)
    place = paths.logs() / folder
    files.write_parquet(place / PARQUET, frame)
    files.write_text(place / CSV, frame.to_csv(index=False, lineterminator="\n"))
    return place / CSV


def _row(folder: str, one: Standing) -> dict[str, Any]:
    place = paths.run(folder, one.stage, one.unit)
    result = files.read_json(place / "result.json") if one.state in ("finished", "stale") else None
    parameters = ((result or {}).get("key") or files.read_json(place / "key.json") or {}).get(
        "parameters", {}
    )
    result = result or {}
    row = {
        "study": folder,
        "stage": one.stage,
        "unit": one.unit,
        "arm": parameters.get("arm") or None,
        "seed": parameters.get("seed"),
        "state": one.state,
        "seconds": result.get("seconds"),
        "finished": _when(place / "result.json") if result else None,
        "changed": one.changed or None,
        "failure": _why(one.failure),
    }
    named = {"metrics": result.get("metrics", {}), "parameters": parameters}
    return row | {
        f"{part}.{name}": _plain(value)
        for part, values in named.items()
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _when(path: Path) -> str:
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return changed.isoformat(timespec="seconds")


def _why(failure: dict[str, Any] | None) -> str | None:
    return (
        None
        if failure is None
        else f"{failure.get('kind')}: {failure.get('exception')}: {failure.get('message')}"
    )
