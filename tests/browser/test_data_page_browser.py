"""The data page as a person uses it: filters, keyboard, undo, pairs, zoom, and a narrow screen."""

import time

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from lib.cleaning import ledger
from lib.data import dataset as datasets


def until(browser, script, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := browser.execute_script(f"return {script}"):
            return found
        time.sleep(0.05)
    shown = browser.execute_script("return document.body.innerText")
    raise AssertionError(f"{script} never held; the page says {shown[:500]!r}")


@pytest.fixture
def page(browser, served):
    browser.get("about:blank")
    browser.get(f"{served}/data/pictures")
    until(browser, "document.documentElement.dataset.ready")
    yield browser
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert errors == []


def press(page, *keys):
    for key in keys:
        ActionChains(page).send_keys(key).perform()


def saved(page):
    until(page, "document.documentElement.dataset.pending !== undefined")
    until(page, "document.documentElement.dataset.pending === '0'")


def by_hand():
    entries = ledger.standing(ledger.read(datasets.load("pictures").folder))
    return [entry for entry in entries if entry["by"] == "data page"]


def test_decisions_by_keyboard_reach_the_ledger_and_can_be_undone(page):
    before = len(by_hand())
    press(page, "k", "r", "r")
    until(page, "at === 3")  # each decision goes on to the next image
    saved(page)
    assert [entry["changes"][0]["after"] for entry in by_hand()[before:]] == [
        {"verdict": "keep"},
        {"verdict": "reject"},
        {"verdict": "reject"},
    ]
    press(page, "z", "z", "z")
    until(page, "[...A.verdict].every((code) => code === 0)")
    saved(page)
    assert len(by_hand()) == before


def test_several_images_get_the_label_that_is_typed(page):
    press(page, Keys.END)
    ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT).key_up(Keys.SHIFT).perform()
    assert page.execute_script("return selected.size") == 2
    press(page, "l")
    until(page, "document.querySelector('#relabel').open")
    press(page, "new class", Keys.ENTER)
    saved(page)
    last = by_hand()[-1]
    assert last["action"] == "label" and len(last["changes"]) == 2
    assert {change["after"]["label"] for change in last["changes"]} == {"new class"}
    press(page, "z")
    saved(page)


def test_filters_change_the_list_the_counts_and_the_address(page):
    page.execute_script("document.querySelector('[data-option=\"class:1\"]').click()")
    until(page, "order.length === 20")
    assert "class=" in page.current_url
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    until(page, "document.documentElement.dataset.ready")
    assert page.execute_script("return [order.length, [...filters.class]]") == [20, [1]]
    none = page.find_element("id", "none")
    assert not none.is_displayed()
    page.find_element("id", "search").send_keys("no such picture", Keys.ENTER)
    until(page, "order.length === 0")
    assert none.is_displayed() and "No image matches" in none.text


def test_names_from_data_are_text_and_all_comes_from_this_server(page, served):
    assert (
        page.execute_script("return document.querySelectorAll('#facets img, #sheet script').length")
        == 0
    )
    loaded = page.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert loaded and all(address.startswith(served) for address in loaded)


def test_the_zoom_is_worked_by_keys_and_gives_the_focus_back(page):
    press(page, Keys.ENTER)
    until(page, "document.querySelector('#zoom').open")
    until(page, "document.querySelector('#zoom-path').textContent.endsWith('.png')")
    first = page.execute_script("return document.querySelector('#zoom-path').textContent")
    press(page, Keys.ARROW_RIGHT)
    until(page, f"document.querySelector('#zoom-path').textContent !== {first!r}")
    press(page, Keys.ESCAPE)
    until(page, "document.activeElement.id === 'grid'")


def test_the_zoom_has_the_decisions_for_those_without_a_keyboard(page):
    press(page, Keys.ENTER)
    until(page, "document.querySelector('#zoom').open")
    page.execute_script("document.querySelector('#zoom [data-act=reject]').click()")
    saved(page)
    assert by_hand()[-1]["changes"][0]["after"] == {"verdict": "reject"}
    press(page, Keys.ESCAPE)
    until(page, "document.querySelector('.stage > .actions [data-act=undo]')").click()
    saved(page)


def test_a_picture_that_cannot_be_read_says_so(page):
    # The page may set the picture's own address after this, so it is set until it stays.
    spoil = """(() => {
        const lost = document.querySelector('.tile .lost'), image = document.querySelector('.tile img');
        if (!lost && !image.src.startsWith('data:')) image.src = 'data:image/png;base64,none';
        return lost?.textContent;
    })()"""
    assert until(page, spoil) == "cannot be read"


def test_a_screen_reader_hears_class_and_verdict_as_they_stand_on_the_tile(page):
    assert page.execute_script("return document.querySelector('.tile').ariaLabel") is None
    press(page, "r")
    saved(page)
    words = "document.querySelector('.tile').innerText"
    until(page, f"{words}.includes('rejected') && {words}.includes(labelOf(A.label[order[0]]))")
    press(page, "z")
    saved(page)


def test_a_refused_decision_is_taken_back_and_reported(page):
    page.execute_script("about.version = 'of another day'")
    press(page, "r")
    until(page, "!document.querySelector('#alert').hidden")
    assert "reload" in page.execute_script("return document.querySelector('#alert').textContent")
    assert page.execute_script("return A.verdict[order[0]]") == 0
    page.get_log("browser")  # the refusal itself


def test_nothing_is_wider_than_a_phone(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        until(page, "innerWidth === 390")
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        bottom = "document.querySelector('.actions').getBoundingClientRect().bottom"
        until(page, f"{bottom} <= innerHeight")
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
