"""Model cards as plain values and as Markdown.

The Markdown has the sections and the front matter of a Hugging Face model card.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "kappa": "Cohen's kappa",
    "matthews": "Matthews correlation",
    "macro_f1": "Macro F1",
    "micro_f1": "Micro F1",
    "exact_match": "Exact match",
    "hamming_loss": "Hamming loss",
    "macro_roc_auc": "ROC AUC (macro)",
    "macro_average_precision": "Average precision (macro)",
    "log_loss": "Log loss",
    "calibration_error": "Calibration error",
}
_SOURCES = {"data": "Data set", "licence_of_data": "Licence", "citation_of_data": "Source"}
_SECTIONS = ("metrics", "classes", "limits", "calibration", "class_names", "images")
_LICENCE_UNKNOWN = "not stated by the source; ask the owner of the pictures"


def of_run(
    result: Mapping[str, Any],
    *,
    run: Any,
    dataset: Any,
    classes: Mapping[str, Mapping[str, float]],
    **further: Any,
) -> dict[str, Any]:
    """Returns the card of a training: data and licence, split, metrics with intervals, limits.

    Args:
        result: the content of `result.json`.
        run: the `runs.Run`.
        dataset: the `data.Dataset`.
        classes: precision, recall, F1 and number of test images for every class.
        **further: more facts, such as `environment`.
    """
    names = [name for name in result["metrics"] if not name.startswith(("train_", "val_"))]
    card = {
        "run": run.name,
        "data": run.data,
        "licence_of_data": dataset.source.get("licence") or _LICENCE_UNKNOWN,
        "citation_of_data": dataset.source.get("citation"),
        **{name: result[name] for name in ("data_hash", "split", "target", "class_names")},
        "images": {name: sum(counts.values()) for name, counts in result["split_counts"].items()},
        "parameters": dict(run.parameters),
        "rendering": dataset.rendering.as_json(),
        "metrics": {name: result["metrics"][name] for name in sorted(names)},
        "classes": {name: dict(row) for name, row in classes.items()},
        "limits": [
            row["message"] for row in result["audit"] if row["outcome"] in ("flagged", "note")
        ],
    }
    known = {"calibration": result["calibration"]} if "calibration" in result else {}
    return card | known | further


def markdown(title: str, facts: Sequence[str], card: Mapping[str, Any]) -> str:
    """Returns a card as Markdown: the facts, then the sections for which `card` has values.

    Whatever has no section of its own follows as a table under "Details".
    """
    rest = {name: value for name, value in card.items() if name not in (*_SECTIONS, *_SOURCES)}
    tables = {name: value for name, value in rest.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in rest.items() if name not in tables}
    return _template().render(
        title=title,
        facts=facts,
        card=card,
        header=_front_matter(card),
        calibration=card.get("calibration", {}),
        sources=_SOURCES,
        metrics=_METRICS,
        details={"facts": plain, **tables},
    )


@functools.cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(  # noqa: S701 - Markdown has nothing to escape
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    dumps = functools.partial(json.dumps, ensure_ascii=False)
    environment.filters |= {"json": dumps, "cell": _cell, "target_accuracy": target_accuracy}
    source = Path(__file__).parent / "templates" / "card.md"
    return environment.from_string(source.read_text("utf-8"))


def _front_matter(card: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML header by which a model hub lists a model; JSON is YAML, so names are quoted."""
    header = {"library_name": "keras", "pipeline_tag": "image-classification", "tags": ["darkroom"]}
    metrics = card.get("metrics", {})
    shown = [name for name in ("accuracy", "macro_f1") if name in metrics]
    if shown and "run" in card:
        results = [{"type": name, "value": round(float(metrics[name]), 4)} for name in shown]
        task = {"type": "image-classification"}
        dataset = {"name": str(card["data"]), "type": "imagefolder", "split": "test"}
        entry = {"task": task, "dataset": dataset, "metrics": results}
        header["model-index"] = [{"name": card["run"], "results": [entry]}]
    return header


def target_accuracy(threshold: Mapping[str, Any]) -> float:
    """Returns the accuracy that a stored threshold is for; older models call it `wished`."""
    return threshold.get("target_accuracy", threshold.get("wished", 0.0))


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
