"""The report on the screen of a phone: nothing is wider than it, and no figure is cut."""

import pytest
from PIL import Image
from test_report import make_run

from lib.evaluation import comparison
from lib.reporting import comparison_page

CLASSES = [f"a class with a long name, {number}" for number in range(9)]


@pytest.fixture
def report(tmp_path):
    """The page of a comparison of two arms and nine classes, with pictures."""
    folder = tmp_path / "logs" / "s" / "train"
    runs = [
        make_run(folder, arm, seed, accuracy=0.6, classes=CLASSES, num=180)
        for arm in ("a", "b")
        for seed in (0, 1)
    ]
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(180):
        Image.new("RGB", (30, 20), (number, 90, 90)).save(raw / f"{number:03d} <i>.png")
    page = tmp_path / "report.html"
    published = {"of_others": {"accuracy": 0.7, "n": 100}}
    found = comparison.comparison(runs)
    page.write_text(comparison_page.render(found, published=published, raw=raw), encoding="utf-8")
    return page.as_uri()


def test_nothing_is_wider_than_the_screen_and_no_figure_is_cut(browser, report):
    browser.get(report)
    cut = {}
    for width in (390, 768, 1440):
        size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        cut[width] = browser.execute_script(
            "const boxes = document.querySelectorAll('html, figure, [aria-label=\"Table of arms\"]');"
            "return [...boxes].filter((box) => box.scrollWidth > box.clientWidth + 1)"
            ".map((box) => `${box.tagName} ${box.className}`)"
        )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert cut == {390: [], 768: [], 1440: []}
