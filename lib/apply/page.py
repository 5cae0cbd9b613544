"""What came of a folder as one self-contained HTML page: counts, the pictures to look at, examples
of the accepted ones.
"""

from __future__ import annotations

from pathlib import Path

from lib import files
from lib.apply import figures
from lib.apply.folder import Outcome
from lib.reporting import images, report, text

TEMPLATES = Path(__file__).parent / "templates"
_MOST_PICTURES = 240


def write(outcome: Outcome, folder: Path) -> Path:
    """Writes `report.html` into `folder` and returns its path."""
    path = Path(folder) / "report.html"
    files.write_text(path, render(outcome))
    return path


def render(outcome: Outcome) -> str:
    """The page as text, with small copies of the pictures it shows inside."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, report.TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = text.percent
    seen, drawing = outcome.seen, figures.probabilities(outcome)
    accepted = {name: examples for name, examples in seen.accepted.items() if examples}
    uris = images.data_uris(outcome.folder, _shown(outcome, accepted))
    missing = Markup('<span class="gone">picture not shown</span>')
    shown = Markup('<img src="{}" alt="{}" loading="lazy">')
    return environment.get_template("applied.html").render(
        title=f"Labels for {outcome.folder.resolve().name}",
        outcome=outcome,
        seen=seen,
        classes=sorted(seen.by_class.items(), key=lambda item: -sum(item[1].values())),
        accepted=list(accepted.items()),
        picture=lambda path: shown.format(uris[path], path) if path in uris else missing,
        figure=report.embedded(drawing),
        facts=_facts(outcome),
    )


def _shown(outcome: Outcome, accepted: dict[str, list[tuple[float, str]]]) -> list[str]:
    wanted = [path for _, path, _ in outcome.seen.unsure]
    longest = max((len(examples) for examples in accepted.values()), default=0)
    for place in range(longest):  # the first of every class, then the second of every class, …
        wanted += [examples[place][1] for examples in accepted.values() if place < len(examples)]
    return wanted[:_MOST_PICTURES]


def _facts(outcome: Outcome) -> dict[str, str]:
    classifier, test = outcome.classifier, outcome.classifier.known
    facts = {
        "folder": outcome.folder.resolve().name,
        "model": classifier.name,
        "classes": ", ".join(classifier.class_names),
        "sees": f"{classifier.size[0]} × {classifier.size[1]} pixels, {classifier.resize}",
        "temperature": f"{classifier.temperature:.2f}",
        "wished accuracy": f"{100 * outcome.wished:g} %",
    }
    if test is not None:
        part = test.split("test")
        facts["on its own test images"] = (
            f"{100 * float((part.predicted == part.truth).mean()):.1f} % of {len(part):,} right"
        )
    if outcome.copied_to is not None:
        facts["copied to"] = outcome.copied_to.name
    facts["time"] = (
        f"{outcome.seconds:,.1f} s, {outcome.seen.num / max(outcome.seconds, 1e-9):,.0f} files a "
        "second"
    )
    return facts
