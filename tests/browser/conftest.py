"""A headless Chromium and the site served over a home of hostile names. Without a browser these
tests are skipped, and say so; where `DARKROOM_NEEDS_BROWSER` is set, as `.ci/run` does, a missing
one is a failure.
"""

import os
import shutil
import threading

import map_home
import pytest

from lib.web import site

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    from selenium import webdriver

    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        told = "no Chromium with its chromedriver on this machine (Debian: apt-get install chromium chromium-driver)"
        pytest.fail(told) if os.environ.get("DARKROOM_NEEDS_BROWSER") else pytest.skip(told)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        "--no-first-run",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--disable-background-networking",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.set_script_timeout(600)
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The address of the site, served by waitress as `darkroom web` does."""
    root = tmp_path_factory.mktemp("browser")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DARKROOM_HOME", str(root))
        map_home.build(root)
        server = site.listen()
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        yield f"http://localhost:{server.effective_port}"
        # the thread ends with the process; waiting for its loop takes longer than any test
        server.close()
