"""The map page as a person uses it: with the mouse, with the keyboard alone, and with names that
would like to be scripts.
"""

import time

import map_home
import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

PAGE = f"/maps/{map_home.PLACE}"


def until(browser, script, *given, seconds=600):
    """Waits until a script returns something true, and returns that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := browser.execute_script(f"return {script}", *given):
            return found
        time.sleep(0.05)
    shown = browser.execute_script("return document.body.innerText")
    raise AssertionError(f"{script} never held; the page says {shown[:500]!r}")


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


@pytest.fixture
def page(browser, served):
    browser.get("about:blank")
    browser.get(served + PAGE)
    until(browser, "document.documentElement.dataset.ready")
    yield browser
    errors = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert errors == []


def press(page, *keys):
    find(page, "#plot-a").send_keys(*keys)


def test_it_is_drawn_from_this_server_alone_and_no_name_is_a_script(page, served):
    assert len(page.find_elements(By.CSS_SELECTOR, "#legend button")) == 3
    assert page.execute_script("return plots[0].x.length") == 60
    until(page, "document.querySelector('#map-a').firstElementChild.clientWidth > 600")
    loaded = page.execute_script(
        "return performance.getEntriesByType('resource').map((each) => each.name)"
    )
    assert loaded and all(address.startswith(served) for address in loaded)
    assert find(page, "#legend span").text in map_home.CLASSES
    assert (
        page.execute_script("return document.querySelectorAll('#legend img, aside script').length")
        == 0
    )


def hexed(colour):
    """0xBBGGRR as the palette writes it."""
    return f"#{colour.to_bytes(3, 'little').hex()}"


SHARE_OF_COLOUR = """
const done = arguments[0], copy = document.createElement('canvas').getContext('2d');
const where = plots[0].element, { canvas } = plots[0].cloud.painter;
plots[0].cloud.now();
const width = copy.canvas.width = where.clientWidth, height = copy.canvas.height = where.clientHeight;
copy.fillStyle = getComputedStyle(where.parentElement).backgroundColor;
copy.fillRect(0, 0, width, height);
copy.drawImage(canvas, canvas.offsetLeft, canvas.offsetTop);
const { data } = copy.getImageData(0, 0, width, height);
const v = seen(plots[0]), row = 7;
const i = Math.floor((plots[0].x[row] - v.left) / (v.right - v.left) * width);
const j = Math.floor((v.top - plots[0].y[row]) / (v.top - v.bottom) * height);
let ink = 0;
for (let k = 0; k < data.length; k += 4) {
  if (Math.hypot(data[k] - data[0], data[k + 1] - data[1], data[k + 2] - data[2]) > 60) ink++;
}
done([plots[0].cloud.drawn, [...data.slice(4 * (j * width + i), 4 * (j * width + i) + 3)], ink]);
"""


def test_a_graphics_card_and_this_processor_draw_the_same_points(page, served):
    found = {}
    for wished in ("webgl", "pixels"):
        page.get("about:blank")
        page.get(f"{served}{PAGE}#drawn={wished}")
        until(page, "document.documentElement.dataset.ready")
        drawn, colour, ink = page.execute_async_script(SHARE_OF_COLOUR)
        assert drawn == wished
        found[wished] = colour, ink
    (card, inked), (own, ours) = found["webgl"], found["pixels"]
    assert all(
        abs(one - other) <= 3 for one, other in zip(card, own, strict=True)
    )  # the middle of a point
    assert (
        inked == pytest.approx(ours, rel=0.1) and ours > 60 * 30
    )  # 60 discs 8 pixels wide, some of which overlap
    page.execute_script("mark([0])")
    until(page, "!plots[0].cloud.waiting")
    _, faded, left = page.execute_async_script(SHARE_OF_COLOUR)
    assert left < 100  # the one that is marked; the others have faded
    assert sum(faded) > sum(own)


def test_a_map_that_moves_shows_its_points_where_they_are_and_is_drawn_again_at_rest(page, served):
    page.get("about:blank")
    page.get(f"{served}{PAGE}#drawn=pixels")
    until(page, "document.documentElement.dataset.ready && !plots[0].cloud.waiting")
    page.execute_script(
        "window.shift = () => plots[0].cloud.painter.canvas.style.transform; point(3)"
    )
    until(page, "!document.querySelector('.ring').hidden")
    before = page.execute_script("return document.querySelector('.ring').getBoundingClientRect().x")
    page.execute_script(
        "window.was = seen(plots[0]); window.right = (share) => { const v = seen(plots[0]);"
        "frame(plots[0], v.cx + share * (v.right - v.left), v.cy, v.span); }; right(0.1)"
    )
    until(page, "!plots[0].cloud.waiting")
    width = page.execute_script("return plots[0].element.clientWidth")
    after = page.execute_script("return document.querySelector('.ring').getBoundingClientRect().x")
    assert before - after == pytest.approx(0.1 * width, abs=1)
    until(page, "shift() === ''")  # at rest
    assert page.execute_script(
        "return plots[0].cloud.painter.drawn.left > was.left && !plots[0].figure.hold_render"
    )
    page.execute_script("right(0.05); plots[0].cloud.now()")
    assert page.execute_script("return shift()").startswith("translate(-")
    assert (
        page.execute_script("return plots[0].cloud.painter.canvas.getBoundingClientRect().width")
        > 1.4 * width
    )


def test_a_lasso_takes_what_is_inside_and_its_keys_add_or_take_away(page):
    page.execute_script(
        "const p = plots[0]; p.base = { x: p.x, y: p.y };"
        "window.box = (left, right, keys) => { p.keys = keys; lasso(p, [left, right, right, left], "
        "[-1, -1, 2, 2]);"
        " return [...state.marked].sort((a, b) => a - b); };"
    )
    places = page.execute_script("return [...plots[0].x]")
    inside = lambda low, high: [row for row, x in enumerate(places) if low < x < high]  # noqa: E731
    assert page.execute_script("return box(-1, 0.5, {})") == inside(-1, 0.5) != []
    assert page.execute_script("return box(0.8, 2, {shift: true})") == sorted(
        inside(-1, 0.5) + inside(0.8, 2)
    )
    assert page.execute_script("return box(0.2, 2, {ctrl: true})") == sorted(
        inside(0.2, 0.5) + inside(0.8, 2)
    )
    assert page.execute_script("return box(0.8, 2, {ctrl: true, shift: true})") == inside(0.2, 0.5)
    edge = page.execute_script(  # a crescent: the middle of its mouth lies outside
        "plots[0].keys = {}; lasso(plots[0], [0, 1, 1, 0, 0, .9, .9, 0], [0, 0, 1, 1, .9, .9, .1, "
        ".1]);"
        "return [...state.marked].every((row) => plots[0].y[row] >= .9 || plots[0].y[row] <= .1 || "
        "plots[0].x[row] >= .9)"
    )
    assert edge


def test_a_click_in_the_legend_hides_a_class_and_shift_leaves_it_alone(page):
    shown = "[...plots[0].x].filter((value) => !Number.isNaN(value)).length"
    find(page, "#legend button").click()
    assert page.execute_script(f"return {shown}") == 40
    find(page, "#all").click()
    assert page.execute_script(f"return {shown}") == 60
    ActionChains(page).key_down(Keys.SHIFT).click(find(page, "#legend button")).key_up(
        Keys.SHIFT
    ).perform()
    assert page.execute_script(f"return {shown}") == 20


def test_the_mouse_shows_a_picture_and_marks_by_lasso(page):
    place = page.execute_script(
        "const p = plots[0], v = seen(p), box = p.element.getBoundingClientRect();"
        "return [box.left + (p.x[4] - v.left) / (v.right - v.left) * box.width,"
        "        box.top + (v.top - p.y[4]) / (v.top - v.bottom) * box.height, box.left, box.top, "
        "box.width, box.height]"
    )
    x, y, left, top, width, height = map(int, place)
    mouse = ActionChains(page, duration=50)
    for step in (40, 3, 0):  # a mouse that does not move shows nothing
        mouse.w3c_actions.pointer_action.move_to_location(x + step, y)
    mouse.perform()
    until(
        page,
        "!document.getElementById('hover').hidden && document.querySelector('#hover "
        "img').naturalWidth > 0",
    )
    assert "class: " in find(page, "#hover p").text
    find(page, "[data-drag=lasso]").click()
    for pause in (0.1, 0.5, 1.5):  # a busy machine swallows movements that are too quick
        draw_around(page, left, top, width, height, pause)
        if page.execute_script("return state.marked.size") == 60:
            break
    assert until(page, "state.marked.size") == 60
    until(page, "document.querySelectorAll('#chosen img').length === 60")
    assert "60 images are marked" in find(page, "#chosen-count").text
    assert page.execute_script(
        "return [...document.querySelectorAll('#chosen img')].every((each) => each.alt)"
    )


def test_a_picture_that_was_on_its_way_does_not_come_while_the_map_moves(page):
    x, y = page.execute_script(
        "const p = plots[0], v = seen(p), box = p.element.getBoundingClientRect();"
        "return [box.left + (p.x[4] - v.left) / (v.right - v.left) * box.width,"
        "        box.top + (v.top - p.y[4]) / (v.top - v.bottom) * box.height]"
    )
    page.execute_script(
        "document.querySelector('#drag button').click()"
    )  # the map moves by dragging
    mouse = ActionChains(page, duration=10)
    at = mouse.w3c_actions.pointer_action
    for step in (40, 3, 0):
        at.move_to_location(int(x) + step, int(y))
    at.pointer_down()
    at.move_to_location(int(x) + 60, int(y) + 20)
    at.pause(0.5)
    mouse.perform()
    try:
        assert page.execute_script(
            "return document.getElementById('hover').hidden && hovered === -1"
        )
    finally:
        done = ActionChains(page)
        done.w3c_actions.pointer_action.pointer_up()
        done.perform()
    page.execute_script(
        "plots[0].element.dispatchEvent(new PointerEvent('pointermove', arguments[0]))",
        {"bubbles": True, "clientX": int(x) + 60, "clientY": int(y) + 20},
    )
    until(page, "!document.getElementById('hover').hidden")
    page.execute_script(
        "plots[0].element.dispatchEvent(new WheelEvent('wheel', {bubbles: true, deltaY: 120}))"
    )
    assert page.execute_script("return document.getElementById('hover').hidden")


def test_a_point_that_is_chosen_on_the_map_is_seen_next_to_it(page):
    press(page, "s")
    until(page, "document.querySelectorAll('#chosen img').length === 60")
    page.execute_script("document.querySelector('aside').scrollTop = 1e6")
    press(page, "n")
    until(page, "document.querySelector('#point .large')")
    top, bottom = page.execute_script(
        "const box = document.querySelector('aside').getBoundingClientRect(), top = "
        "document.getElementById('point')"
        ".getBoundingClientRect().top; return [top - box.top, box.bottom - top]"
    )
    assert top > -1 and bottom > 100


def test_the_legend_counts_the_points_in_grey(page):
    page.execute_script("state.codes = state.codes.slice(); state.codes.fill(255, 0, 7); legend()")
    assert find(page, "#legend .rest").text.split("\n") == ["none of these", "7"]
    numbers = page.execute_script(
        "return about.columns.findIndex((each) => each.kind === 'numbers')"
    )
    page.execute_script("colour(arguments[0])", numbers)
    until(page, "document.querySelector('.ramp')")
    assert page.find_elements(By.CSS_SELECTOR, "#legend .rest") == []
    page.execute_script("state.codes = state.codes.slice(); state.codes.fill(NaN, 0, 5); legend()")
    assert find(page, "#legend .rest").text.split("\n") == ["no number", "5"]


def draw_around(page, left, top, width, height, pause):
    """Draws a lasso along the edge of the map."""
    mouse = ActionChains(page, duration=60)
    at = mouse.w3c_actions.pointer_action
    at.move_to_location(left + 8, top + 8)
    at.pointer_down()
    for x, y in ((0.5, 0), (1, 0), (1, 0.5), (1, 1), (0.5, 1), (0, 1), (0, 0.5), (0, 0.02)):
        at.move_to_location(int(left + 8 + x * (width - 16)), int(top + 8 + y * (height - 16)))
        at.pause(pause)
    at.pointer_up()
    mouse.perform()
    time.sleep(pause)


def test_the_keyboard_alone_walks_marks_zooms_and_finds_neighbours(page):
    press(page, "n")
    first = until(page, "state.point >= 0 && state.point + 1")
    press(page, "n", " ")
    until(page, "state.marked.size === 1")
    assert page.execute_script("return state.point + 1") != first
    until(
        page,
        "document.querySelector('#point .large') && document.querySelector('#point "
        ".large').naturalWidth > 0",
    )
    press(page, Keys.ENTER)
    until(page, "document.querySelectorAll('#near li').length === 12")
    before = page.execute_script("return seen(plots[0]).span")
    press(page, "+", Keys.ARROW_LEFT)
    assert page.execute_script("return seen(plots[0]).span") == pytest.approx(0.8 * before)
    assert page.execute_script("return seen(plots[0]).cx") < 0.5
    press(page, "0", "s")
    assert until(page, "state.marked.size > 1 && state.marked.size") == 60
    press(page, Keys.ESCAPE)
    assert page.execute_script("return state.marked.size") == 0
    press(page, "?")
    assert find(page, "#keys").is_displayed()
    find(page, "#keys button").click()
    press(page, "/")
    assert page.execute_script("return document.activeElement.name") == "text"


def test_points_fly_to_another_method_and_two_spaces_stand_side_by_side(page):
    before = page.execute_script("return plots[0].x[3]")
    press(page, "2")
    flying = until(page, "plots[0].x[3] !== arguments[0] && plots[0].x[3]", before)
    until(page, "Math.abs(plots[0].x[3] - stored.get('trained tsne').x[3]) < 1e-6")
    assert flying != before
    assert "t-SNE" in find(page, "#label-a").text
    press(page, "b")
    until(page, "plots.length === 2 && plots[1].x && plots[1].x.length === 60")
    assert find(page, "#label-b").text.startswith("untrained")
    until(page, "location.hash === '#method=tsne&spaces=trained%2Cuntrained&colour=label'")
    press(page, "b")
    until(page, "document.getElementById('plot-b').hidden")


def test_a_search_is_kept_and_there_again_after_a_reload(page, served):
    find(page, "#search input").send_keys("写真", Keys.ENTER)
    assert until(page, "document.querySelectorAll('#chosen img').length") == 24
    name = "<b>mine</b>"
    find(page, "#keep input").send_keys(name, Keys.ENTER)
    until(page, "document.getElementById('kept').innerText.includes('(24)')")
    page.get("about:blank")
    page.get(served + PAGE)
    until(page, "document.getElementById('kept').innerText.includes('<b>mine</b> (24)')")
    find(page, "#kept button").click()
    assert page.execute_script("return state.marked.size") == 24
    find(page, "#kept li button:last-child").click()
    until(page, "document.getElementById('kept').innerText.includes('None yet')")


def test_colours_follow_a_column_of_numbers_and_of_verdicts(page):
    columns = page.execute_script("return about.columns.map((each) => each.name)")
    page.execute_script("colour(arguments[0])", columns.index("confidence"))
    until(page, "document.querySelector('.ramp')")
    ramp = [colour.lower() for colour in page.execute_script("return about.sequence")]
    first, last = page.execute_script("return [0, 59].map((row) => plots[0].cloud.colour[row])")
    assert [hexed(first), hexed(last)] == [
        ramp[round(0.3 * (len(ramp) - 1))],
        ramp[-1],
    ]  # 0.3 and 1 of confidence
    press(page, "c")
    until(page, "document.querySelectorAll('#legend button').length > 0")
    page.execute_script("colour(arguments[0])", columns.index("verdict"))
    until(page, "state.column === arguments[0]", columns.index("verdict"))
    assert [each.text for each in page.find_elements(By.CSS_SELECTOR, "#legend span")] == [
        "right",
        "wrong",
    ]


def test_what_is_marked_goes_to_the_ledger_and_back(page):
    press(page, "n", " ")
    until(page, "document.querySelectorAll('#chosen img').length === 1")  # nothing moves any more
    find(page, "#judge button").click()
    until(page, "!document.getElementById('undo').hidden")
    assert "1 image sent to the ledger" in find(page, "#message").text
    find(page, "#undo").click()
    until(page, "document.getElementById('message').textContent.includes('undone')")


ADDRESSES = (
    "/runs",
    "/runs/odd@pictures",
    f"/runs/{map_home.PLACE}",
    "/maps",
    PAGE,
    "/classify",
    "/runs/none",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_page_can_be_used_without_seeing_it(browser, served, address):
    browser.get(served + address)
    assert (
        browser.execute_script(
            "return [...document.images].filter((each) => !each.hasAttribute('alt')).length"
        )
        == 0
    )
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('button, a, input:not([type=hidden]), "
        "select')].filter((each) =>"
        " !(each.innerText || each.getAttribute('aria-label') || (each.labels && each.labels[0] && "
        "each.labels[0].innerText)"
        " || each.closest('[hidden], dialog, template') || '').length && !each.closest('[hidden], "
        "dialog'))"
        ".map((each) => each.outerHTML)"
    )
    assert unnamed == []
    assert browser.execute_script(
        "return document.documentElement.lang && document.querySelectorAll('h1').length === 1"
    )
    find(browser, "body").send_keys(Keys.TAB)
    assert (
        browser.execute_script("return document.activeElement.className") == "skip"
    )  # the first stop leads to the content
    browser.get_log("browser")
