"""The page that names pictures, as a person uses it."""

import time

import map_home
import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By


@pytest.fixture(scope="module")
def place(served):
    """A thumbnail model beside the maps that are served."""
    from lib import paths

    return map_home.train_thumbnails(paths.root())


def test_of_several_files_each_is_named_and_those_that_cannot_be_read_are_reported(
    browser, served, place, tmp_path
):
    pixels = np.full((20, 30, 3), 50, np.uint8)
    pixels[:, :15] = 220
    for name in ("one.png", "two.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "between.png").write_bytes(b"no picture")
    browser.get(f"{served}/classify?model={place.replace('@', '%40')}")
    files = [str(tmp_path / name) for name in ("one.png", "between.png", "two.png")]
    browser.find_element(By.ID, "pictures").send_keys("\n".join(files))
    end = time.monotonic() + 600
    while (
        "classified" not in (told := browser.find_element(By.ID, "message").text)
        and time.monotonic() < end
    ):
        time.sleep(0.1)
    first, second = told.split("\n")
    assert first == "2 of 3 images classified."
    assert second.startswith("between.png: This is no picture that can be read")
    sources = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#answers .source")]
    assert sources == [
        f"{name} · odd@pictures/thumbnails/logistic-s0" for name in ("two.png", "one.png")
    ]
    assert all(
        each.is_displayed() for each in browser.find_elements(By.CSS_SELECTOR, "#answers .heat")
    )
    browser.get_log("browser")
