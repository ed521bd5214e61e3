"""The report as chromium shows it: in both themes, three widths, without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from notbugs.report import write_report
from notbugs.study.results import Measured
from tests import fakes

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
INSTRUMENTS = Path(__file__).parent / "data" / "instruments.json"
NAMED = ("cnn width=32 features=16", "cnn width=8 features=16", "independent", "gaussian_noise")
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        reason = "NO BROWSER: the report was not looked at; install chromium to run these tests"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    paths = {}
    text = INSTRUMENTS.read_text(encoding="utf-8")
    for name, hostile in (("plain", False), ("full", False), ("hostile", True)):
        folder = tmp_path_factory.mktemp(name)
        made = fakes.write_study(folder, hostile=hostile, channels=3 if hostile else 1)
        measured = Measured.model_validate_json(renamed(text) if hostile else text)
        made = made.model_copy(update={"instruments": measured} if name != "plain" else {})
        (folder / "results.json").write_text(made.model_dump_json(by_alias=True), encoding="utf-8")
        paths[name] = write_report(folder)
    return paths


def renamed(instruments):
    """The instruments of a study in which whatever a user may name is named by somebody hostile."""
    for name, evil in zip(NAMED, fakes.HOSTILE, strict=True):
        assert json.dumps(name) in instruments
        instruments = instruments.replace(json.dumps(name), json.dumps(evil))
    return instruments


FIRST_ROWS = "document.querySelectorAll('tbody').forEach(of => [...of.rows].slice(4).forEach(row => row.remove()))"


def faults(page, *, scheme="light"):
    """What axe finds, of the first rows of every table: the rest are alike. In the dark only colours can differ."""
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(FIRST_ROWS)
    colours = {"runOnly": {"type": "tag", "values": ["cat.color"]}} if scheme == "dark" else {}
    results = Axe().run(page, options={"resultTypes": ["violations"], **colours})
    assert results.response["passes"]
    return results.generate_report() if results.violations_count else ""


def opened(browser, path, *, width=1280, scheme="light"):
    """The page, and everything it complained about or asked for besides itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, reduced_motion="reduce"
    )
    page, trouble = context.new_page(), []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: trouble.append(request.url) if request.url[:5] not in ("file:", "data:") else 0)
    page.goto(path.as_uri())
    return page, trouble


def test_a_fault_is_found(browser):
    page = browser.new_page()
    page.set_content('<html lang="en"><title>t</title><main><h1>t</h1><p style="color: #ddd">pale</p></main></html>')
    assert "color-contrast" in faults(page, scheme="dark")
    page.context.close()


@pytest.mark.parametrize(("study", "scheme"), [("full", "light"), ("full", "dark"), ("hostile", "light")])
def test_axe_finds_nothing(browser, reports, study, scheme):
    page, trouble = opened(browser, reports[study], scheme=scheme)
    assert faults(page, scheme=scheme) == ""
    assert trouble == []
    page.context.close()


@pytest.mark.parametrize("study", ["full", "hostile"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_no_horizontal_scroll(browser, reports, study, width):
    page, trouble = opened(browser, reports[study], width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert trouble == []
    page.context.close()


def test_hostile_names_are_only_text(browser, reports):
    page, trouble = opened(browser, reports["hostile"])
    assert page.locator("script").count() == 2
    assert page.locator('img[src="x"]').count() == 0
    assert fakes.HOSTILE[0] in page.title()
    script, image, closing, quote = fakes.HOSTILE
    named = {"transfer": [script, image, closing], "corruptions": [closing, quote], "usefulness": fakes.HOSTILE}
    for section, names in named.items():
        assert all(name in page.locator(f"#{section}").text_content() for name in names)
    assert trouble == []
    page.context.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_text_of_figures_is_legible_and_inside(browser, reports, width):
    page, _ = opened(browser, reports["full"], width=width)
    boxes = page.evaluate(
        """[...document.querySelectorAll('svg.chart')].filter(svg => svg.getBoundingClientRect().width).flatMap(svg =>
           [...svg.querySelectorAll('text')].map(text => {
             const size = parseFloat(getComputedStyle(text).fontSize) * svg.getScreenCTM().a
             const box = text.getBoundingClientRect()
             return [text.textContent, size, box.left, box.right]
           }))"""
    )
    assert len(boxes) > 30
    for text, size, left, right in boxes:
        assert size >= 9.5, f"{text!r} is {size} px high"
        assert left >= 0, f"{text!r} is cut off"
        assert right <= width, f"{text!r} is cut off"
    page.context.close()


def test_the_theme_reaches_the_figures(browser, reports):
    colours = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, reports["plain"], scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.querySelector('svg.chart text')).fill"))
        page.context.close()
    assert colours[0] != colours[1]


def test_the_skip_link_comes_first(browser, reports):
    page, _ = opened(browser, reports["plain"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#found")
    page.context.close()


def test_what_the_pointer_learns_of_features_is_there_for_the_keyboard(browser, reports):
    page, trouble = opened(browser, reports["hostile"])
    titles = page.locator("#usefulness svg").first.locator("title").all_text_contents()
    folded = page.locator("#usefulness details").first
    folded.locator("summary").focus()
    page.keyboard.press("Enter")
    rows = [row.all_inner_texts() for row in (tr.locator("th, td") for tr in folded.locator("tbody tr").all())]
    assert len(rows) == len(titles) > 10
    said = {}
    for feature, name, _, rho, gamma in rows:
        said[feature] = f"feature {feature}, class {name}: ", rho + gamma
    for title in titles:
        start, numbers = said[re.match(r"feature (\d+)", title)[1]]
        assert title.startswith(start)
        assert re.findall(r"-?[\d.]+", numbers) == re.findall(r"-?[\d.]+", title.removeprefix(start))
    assert trouble == []
    page.context.close()


def test_nothing_is_cut_or_dark_in_print(browser, reports):
    page, _ = opened(browser, reports["full"], width=700, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 254)"
    cut = """[...document.querySelectorAll('table, svg, pre, img')].filter(part => {
      const box = part.getBoundingClientRect()
      return box.width && box.right > 701
    }).map(part => part.closest('section').id)"""
    assert page.evaluate(cut) == []
    page.context.close()
