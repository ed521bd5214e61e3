"""The gallery and the drawing of the idea as chromium shows them, used as a person would use them."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from notbugs.report import write_report
from tests import fakes
from tests.test_gallery import old_gallery
from tests.test_report_browser import browser, faults, opened  # noqa: F401  a fixture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def arrays():
    return fakes.gallery(k=12)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    paths = {}
    for name in ("plain", "hostile", "old"):
        folder = tmp_path_factory.mktemp(name)
        fakes.write_study(folder, hostile=name == "hostile")
        if name == "old":
            save_file(old_gallery(), folder / "gallery.safetensors")
        paths[name] = write_report(folder)
    return paths


@pytest.fixture
def page(browser, reports):  # noqa: F811
    page, trouble = opened(browser, reports["plain"])
    page.wait_for_selector("#play:not([hidden])")
    yield page
    assert trouble == []
    page.context.close()


def pixels(page, canvas):
    """The grey values of a canvas, shape (height, width)."""
    script = """name => {
      const shown = document.getElementById(name), read = document.createElement('canvas')
      const context = read.getContext('2d', { willReadFrequently: true })
      Object.assign(read, { width: shown.width, height: shown.height })
      context.drawImage(shown, 0, 0)
      return [read.width, ...context.getImageData(0, 0, read.width, read.height).data]
    }"""
    width, *values = page.evaluate(script, canvas)
    return np.array(values, np.uint8).reshape(-1, width, 4)[:, :, 0]


def grey(image):
    return np.rint(255 * image[0].astype(np.float64)).astype(np.uint8)


def shown(page):
    return page.locator("#play-images label:visible").count()


def choose_set(page, number):
    page.locator("#play-sets input").nth(number).check(force=True)


def test_choosing_an_image_and_a_set_shows_its_pixels(page, arrays):
    page.locator("#play-images input").nth(5).check(force=True)
    choose_set(page, 4)
    assert np.array_equal(pixels(page, "play-start"), grey(arrays["D"][5]))
    assert np.array_equal(pixels(page, "play-image"), grey(arrays["D_det"][5]))
    assert page.text_content("#play-began") == "5"
    assert page.text_content("#play-label") == "6"
    assert page.text_content("#play-goal") == "reached its goal: the source says 6"
    norm = np.linalg.norm(arrays["D_det"][5].astype(np.float64) - arrays["D"][5])
    assert f"l2 {norm:.3g}" in page.text_content("#play-moved")
    way = "0.25 times the way to the nearest training image of 6; 5 % of its pixels change noticeably"
    assert page.text_content("#play-size") == way
    assert page.locator("#play-target").is_hidden()
    choose_set(page, 0)
    assert page.locator("#play-target").is_visible()
    assert page.text_content("#play-size") == "structural similarity 0.4 to its start, 0.6 to its target"
    assert np.array_equal(pixels(page, "play-target"), grey(arrays["D"][5]))


def test_the_slider_walks_through_the_search(page, arrays):
    choose_set(page, 4)
    slider = page.locator("#play-step")
    slider.focus()
    assert slider.get_attribute("aria-valuetext").startswith("20 of 20: ")
    page.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "8 of 20: on the source, “1” has probability 81.9 %"
    start = arrays["D"][0].astype(np.float64)
    frame = start + arrays["D_det.moved"][0, 2].astype(np.float64)
    assert np.array_equal(pixels(page, "play-image"), grey(frame))
    page.keyboard.press("Home")
    assert np.array_equal(pixels(page, "play-image"), grey(arrays["D"][0]))
    assert (pixels(page, "play-difference") == 128).all()
    assert page.text_content("#play-difference-says") == "no perturbation yet"


def test_the_perturbation_is_amplified_by_the_factor_it_says(page, arrays):
    choose_set(page, 3)
    factor = float(page.text_content("#play-difference-says").split("×")[1])
    moved = arrays["D_rand_other"][0].astype(np.float64) - arrays["D_rand_other.start"][0]
    assert np.array_equal(pixels(page, "play-difference"), grey(0.5 + factor * moved))


def test_flipping_goes_to_the_start_and_back(page, arrays):
    choose_set(page, 4)
    flip = page.locator("#play-flip")
    flip.focus()
    page.keyboard.press("Space")
    assert flip.get_attribute("aria-pressed") == "true"
    assert np.array_equal(pixels(page, "play-image"), grey(arrays["D"][0]))
    assert "the start" in page.text_content("#play-said")
    flip.click()
    assert flip.get_attribute("aria-pressed") == "false"
    assert np.array_equal(pixels(page, "play-image"), grey(arrays["D_det"][0]))


def test_filters_leave_what_fits(page, arrays):
    choose_set(page, 4)
    assert shown(page) == 12
    page.select_option("#play-looks", "1")
    assert shown(page) == (arrays["D.labels"] == 1).sum() == 2
    assert page.text_content("#play-began") == "1"
    page.select_option("#play-success", "1")
    assert shown(page) == 1
    assert page.text_content("#play-count") == "1 of 12 images"
    page.select_option("#play-trains", "9")
    assert shown(page) == 0
    assert page.locator("#play-none").is_visible()
    assert page.locator("#play-apart").is_hidden()
    for name in ("looks", "success", "trains"):
        page.select_option(f"#play-{name}", "")
    norms = np.linalg.norm((arrays["D_det"].astype(np.float64) - arrays["D"]).reshape(12, -1), axis=1)
    middle = float(np.median(norms))
    page.locator("#play-norm").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')) }", middle)
    limit = float(page.locator("#play-norm").input_value())
    assert 0 < shown(page) == (norms <= limit).sum() < 12


def test_by_keyboard_alone(page):
    page.locator("#play-images input").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "2"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "1"
    assert page.get_attribute("#play-image", "aria-label") == "finished: trains as 2"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "play-step"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "play-flip"


def test_a_set_without_such_images_can_be_left_by_keyboard(page):
    choose_set(page, 4)
    page.select_option("#play-looks", "1")
    page.select_option("#play-trains", "9")
    assert shown(page) == 0
    assert page.text_content("#play-said") == page.locator("#play-none").inner_text()
    page.locator("#play-sets input").nth(4).focus()
    for number in (3, 2, 1):
        page.keyboard.press("ArrowLeft")
        assert page.evaluate("document.activeElement.value") == str(number)
    assert page.locator("#play-sets").is_visible()


def test_pixels_stay_crisp(page):
    assert page.evaluate("getComputedStyle(document.getElementById('play-image')).imageRendering") == "pixelated"
    assert page.evaluate("getComputedStyle(document.querySelector('.idea image')).imageRendering") == "pixelated"


@pytest.mark.parametrize("study", ["plain", "old"])
def test_axe_finds_nothing_in_the_open_gallery(browser, reports, study):  # noqa: F811
    page, trouble = opened(browser, reports[study], scheme="dark", width=360)
    page.wait_for_selector("#play:not([hidden])")
    assert faults(page) == ""
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert trouble == []
    page.context.close()


def test_hostile_names_are_only_text(browser, reports):  # noqa: F811
    page, trouble = opened(browser, reports["hostile"])
    page.wait_for_selector("#play:not([hidden])")
    choose_set(page, 4)
    for number, name in enumerate(fakes.HOSTILE):
        page.select_option("#play-looks", str(number))
        assert page.text_content("#play-began") == name
        assert name in page.locator("#play-images label:visible").first.text_content()
    assert page.locator("script").count() == 2
    assert trouble == []
    page.context.close()


def test_without_scripts_the_table_stands(browser, reports):  # noqa: F811
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(reports["plain"].as_uri())
    assert page.locator("#play").is_hidden()
    assert page.locator("#images img:visible").count() > 50
    assert page.locator("svg.idea:visible").count() == 2
    context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_drawing_is_legible(browser, reports, width):  # noqa: F811
    page, _ = opened(browser, reports["hostile"], width=width)
    boxes = page.evaluate(
        """[...document.querySelectorAll('svg.idea')].flatMap(svg => [...svg.querySelectorAll('text')].map(text => {
             const [box, own] = [text.getBoundingClientRect(), svg.getBoundingClientRect()]
             const size = parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a
             return [text.textContent, size, box.left - own.left, own.right - box.right]
           }))"""
    )
    assert len(boxes) > 20
    for text, size, left, right in boxes:
        assert size >= 10.5, f"{text!r} is {size} px high"
        assert min(left, right) >= -1, f"{text!r} is cut off"
    first, second = (page.locator("svg.idea").nth(number).bounding_box() for number in (0, 1))
    assert (first["y"] < second["y"]) == (width == 360)
    page.context.close()
