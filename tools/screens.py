"""Takes the screens of docs/screens from the site over a finished study, in a headless Chromium.

    DARKROOM_HOME=… python -m tools.screens documents documents docs/screens

The study needs the stages train, features and compare; selenium and Chromium come with the tests.
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path
from typing import Any

from lib.data import dataset as datasets
from lib.web import finished_runs, site

WIDTH, HEIGHT = 1280, 760
_READY = "return document.readyState === 'complete' && document.documentElement.dataset.ready"


def main() -> None:
    """Takes every screen of the command line's data set and study."""
    parser = argparse.ArgumentParser(prog="python -m tools.screens", description=__doc__)
    for name in ("data", "study", "folder"):
        parser.add_argument(name)
    given = parser.parse_args()
    server = site.listen()
    threading.Thread(target=server.run, daemon=True).start()
    browser = _browser()
    try:
        take(browser, f"http://localhost:{server.effective_port}", given)
    finally:
        browser.quit()


def take(browser: Any, address: str, given: argparse.Namespace) -> None:
    """Takes the screens, one file each."""
    from selenium.webdriver.support.ui import WebDriverWait

    def show(page: str, ready: str, *scripts: str, dark: bool = False) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(address + page)
        loaded = "return [...document.images].every((image) => image.complete)"
        for script in (ready, *scripts, loaded):
            WebDriverWait(browser, 600).until(
                lambda _, script=script: browser.execute_script(script)
            )

    def save(name: str) -> None:
        browser.save_screenshot(str(Path(given.folder) / f"{name}.png"))

    labels = f"/data/{given.data}?reason=wrong_label&verdict=keep"
    for name, dark in (("data", False), ("data_dark", True)):
        show(labels, _READY, dark=dark)
        save(name)
    show(f"/data/{given.data}?reason=near_duplicate&view=pairs", _READY, "movePair(1); return true")
    save("pairs")
    show(f"/runs/{given.study}", "return document.querySelector('iframe, #chart svg')")
    save("study")
    point = "document.querySelector('#chart').scrollIntoView(); return true"
    show(
        f"/runs/{given.study}", "return document.querySelector('#chart svg, #chart canvas')", point
    )
    _hover(browser, "#chart")
    save("curves")
    features = finished_runs.runs(given.study, stage="features")[0]
    show(f"/maps/{features.id}#method=tsne", "return document.querySelector('#waiting').hidden")
    save("map")
    dataset = datasets.load(given.data)
    picture = dataset.raw / dataset.accepted()["path"].iloc[2]
    show("/classify", "return document.querySelector('#pictures')")
    browser.find_element("id", "pictures").send_keys(str(picture.resolve()))
    answered = "return document.querySelector('#answers img')"
    WebDriverWait(browser, 600).until(lambda _: browser.execute_script(answered))
    save("classify")


def _hover(browser: Any, selector: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).move_to_element(browser.find_element("css selector", selector)).perform()


def _browser() -> Any:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--use-angle=swiftshader"):
        options.add_argument(word)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return browser


if __name__ == "__main__":
    main()
