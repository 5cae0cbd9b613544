"""The Runs page follows a study at work, and keeps its filter when it renews itself."""

import json
import os
from pathlib import Path

from selenium.webdriver.support.ui import WebDriverWait

from lib.runs import record


def test_the_runs_page_follows_a_study_at_work(browser, served):
    run = Path(os.environ["DARKROOM_HOME"]) / "logs" / "live" / "train" / "a-s0"
    run.mkdir(parents=True)
    (run / record.KEY).write_text("{}")

    def note(epoch):
        (run / record.PROGRESS).write_text(
            json.dumps({"state": "running", "epoch": epoch, "epochs": 12})
        )

    def wait_for(text):
        card = "document.querySelector('[data-study=live]')?.innerText.includes(arguments[0])"
        WebDriverWait(browser, 600).until(
            lambda _: browser.execute_script(f"return {card}", text), text
        )

    lock = record.acquire(run)
    try:
        note(1)
        browser.get(f"{served}/runs")
        wait_for("epoch 1/12")
        browser.find_element("id", "filter").send_keys("live")
        note(2)
        wait_for("epoch 2/12")
        metrics = {"accuracy": 0.9, "val_accuracy": 0.875}
        (run / record.RESULT).write_text(json.dumps({"metrics": metrics, "figures": []}))
    finally:
        lock.release()
    wait_for("1 finished")
    wait_for("87.5 %")
    assert browser.find_element("id", "filter").get_property("value") == "live"
    others = "return [...document.querySelectorAll('#studies > li')].filter((card) => !card.hidden).length"
    assert browser.execute_script(others) == 1
