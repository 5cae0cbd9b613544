"""Model cards as plain values and as Markdown.

The Markdown has the sections and the front matter of a Hugging Face model card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

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
    return (
        card | ({"calibration": result["calibration"]} if "calibration" in result else {}) | further
    )


def markdown(title: str, facts: Sequence[str], card: Mapping[str, Any]) -> str:
    """Returns a card as Markdown: the facts, then the sections for which `card` has values.

    Whatever has no section of its own follows as a table under "Details".
    """
    rest = dict(card)
    metrics, classes = rest.pop("metrics", {}), rest.pop("classes", {})
    limits, calibration = rest.pop("limits", []), rest.pop("calibration", {})
    rest.pop("class_names", None)
    lines = [*_front_matter(card), f"# {title}", "", *(f"- {fact}" for fact in facts)]
    lines += ["", "## Intended use", "", _use(card, calibration)]
    lines += ["", "## Training data", ""]
    for name, label in (
        ("data", "Data set"),
        ("licence_of_data", "Licence"),
        ("citation_of_data", "Source"),
    ):
        value = rest.get(name)
        if value and not isinstance(value, Mapping):
            lines.append(f"- {label}: {rest.pop(name)}")
    if rest.get("images"):
        counts = ", ".join(f"{number:,} {split}" for split, number in rest.pop("images").items())
        lines.append(f"- Images: {counts} (split `{rest.get('split')}`)")
    if metrics:
        lines += ["", "## Evaluation", "", "On test images, read after everything was chosen.", ""]
        lines += _metric_rows(metrics)
    if classes:
        columns = list(next(iter(classes.values())))
        lines += ["", "## By class", "", f"| class | {' | '.join(columns)} |"]
        lines.append("|---" * (len(columns) + 1) + "|")
        lines += [_row(name, *row.values()) for name, row in classes.items()]
    lines += ["", "## Limits", ""]
    lines += [f"- {message}" for message in limits]
    lines.append("- Pictures of another source, camera or time may be classified worse than this.")
    lines += ["", "## Details"]
    plain = {name: value for name, value in rest.items() if not isinstance(value, Mapping)}
    for name, section in {"facts": plain, **rest}.items():
        if isinstance(section, Mapping) and section:
            lines += ["", f"### {name}", "", "| what | value |", "|---|---|"]
            lines += [_row(key, value) for key, value in section.items()]
    return "\n".join(lines) + "\n"


def _front_matter(card: Mapping[str, Any]) -> list[str]:
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
    rows = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in header.items()]
    return ["---", *rows, "---", ""]


def target_accuracy(threshold: Mapping[str, Any]) -> float:
    """Returns the accuracy that a stored threshold is for; older models call it `wished`."""
    return threshold.get("target_accuracy", threshold.get("wished", 0.0))


def _use(card: Mapping[str, Any], calibration: Mapping[str, Any]) -> str:
    sentence = "Sorts pictures like those it was trained on into the classes above."
    for row in calibration.get("thresholds", []):
        if target_accuracy(row) == 0.95 and "coverage" in row:
            sentence += (
                f" Answers with a probability of at least {row['threshold']:.2f} are meant to be "
                f"right in 95 % of cases; {row['coverage']:.0%} of the test images reach it."
            )
    if 0.95 in calibration.get("not_promised", []):
        sentence += (
            f" No probability promises 95 % accuracy: {calibration['num_validation']:,} validation "
            "images do not show one."
        )
    return sentence


def _metric_rows(metrics: Mapping[str, Any]) -> list[str]:
    rows = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, label in _METRICS.items():
        if name in metrics:
            low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
            interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
            rows.append(_row(label, metrics[name], interval))
    if "num_images" in metrics:
        rows.append(_row("Test images", f"{metrics['num_images']:,}", ""))
    return rows


def _row(*values: object) -> str:
    texts = ["" if value is None else value for value in values]
    cells = (f"{text:.4g}" if isinstance(text, float) else str(text) for text in texts)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
