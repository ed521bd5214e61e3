"""The page: what it writes, what a browser makes of it, and that its script computes what torch computes."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from notbugs import theory
from notbugs.errors import InputError
from notbugs.formats import number
from notbugs.report import write_theory
from notbugs.report.theory import page as draw
from notbugs.theory import TwoGaussians, experiments, relaxed_eigenvalues, relaxed_multiplier
from notbugs.theory.experiments import live_pair, live_settings
from tests.test_report_browser import faults

WRITTEN = Path(__file__).parents[1] / "results" / "cifar10-cnn" / "theory.json"
SHORTER = 8
"""Times fewer steps of training than the page takes, which needs them for its intervals to hold the formula."""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    def shorter(pair, radius, *, steps, **how):
        return theory.adversarial_training(pair, radius, steps=steps // SHORTER, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiments, "adversarial_training", shorter)
        experiments.compute.cache_clear()
        yield write_theory(tmp_path_factory.mktemp("theory") / "new", seed=0)
    experiments.compute.cache_clear()


@pytest.fixture(scope="module")
def numbers(page):
    return json.loads(page.with_name("theory.json").read_text())


def held(block):
    return [point["holds"] for point in block["points"] if point.get("adversary") != "sample"]


def test_every_block_of_numbers_is_there(numbers):
    assert numbers["seed"] == 0
    assert sum(held(numbers["theorem1"])) >= len(held(numbers["theorem1"])) - 3  # 95 % intervals
    slopes = [p["slope"] for p in numbers["figure4"]["panels"]]
    assert slopes[0] == pytest.approx(0.2)
    assert slopes == sorted(slopes)


def test_the_checks_of_the_page_that_was_made_in_full_hold(numbers):
    """As many points, of the same formulas, as are computed now; trained for as long as the page takes."""
    whole = json.loads(WRITTEN.read_text())
    for name in ("theorem1", "theorem2", "theorem3"):
        formulas, theirs = ([point["formula"] for point in of[name]["points"]] for of in (numbers, whole))
        assert formulas == pytest.approx(theirs, rel=1e-9)
        assert len(held(whole[name])) >= 12
        assert sum(held(whole[name])) >= len(held(whole[name])) - 3
    gaps = [p["formula"] - p["value"] for p in whole["dimension"]["points"]]
    assert gaps == sorted(gaps, reverse=True)


def test_the_page_is_one_offline_file(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "default-src 'none'" in text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)', text)[1]
    assert re.search(r"script-src 'sha256-[^ ;]+';", policy)
    assert text.count("<h1>") == 1
    assert text.count('<svg class="panel"') == 4
    assert text.count('<svg class="chart"') == 5
    assert sorted(path.name for path in page.parent.iterdir()) == ["theory.html", "theory.json"]


def test_printed_numbers_come_from_the_json(page, numbers):
    def leaves(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from leaves(item)
        elif isinstance(value, int | float):
            yield float(value)

    known = set(leaves(numbers))
    cells = re.findall(r'<data value="([^"]+)">([^<]+)</data>', page.read_text(encoding="utf-8"))
    assert len(cells) > 350
    assert [exact for exact, _ in cells if float(exact) not in known] == []
    assert [said for exact, said in cells if said != number(float(exact))] == []


def test_the_page_is_drawn_from_the_file_alone(page, tmp_path):
    (tmp_path / "theory.json").write_bytes(page.with_name("theory.json").read_bytes())
    assert draw(tmp_path) == page.read_text(encoding="utf-8")


def test_the_name_of_before_warns(tmp_path):
    with pytest.warns(DeprecationWarning, match=r"write_theory_page is now notbugs\.report\.write_theory"):
        assert theory.write_theory_page is write_theory


def test_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken"):
        write_theory(tmp_path / "taken")


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium")
    if not found:
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium")
        pytest.skip("NO BROWSER TESTED: chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def opened(browser, page):
    """Opens the page and, at the end, asserts that it asked for nothing and complained of nothing."""
    trouble, contexts = [], []

    def open_page(**options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: trouble.append(message.text))
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("request", lambda request: trouble.append(request.url) if request.url != page.as_uri() else None)
        tab.goto(page.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


def shown(tab):
    state = json.loads(tab.locator("#live").get_attribute("data-state"))
    cells = tab.eval_on_selector_all("[data-key]", "all => all.map(e => [e.dataset.key, Number(e.dataset.value)])")
    return state, dict(cells)


def by_torch(state):
    """The numbers beside the sliders, from this library, for the moments that the page learned from."""
    true = live_pair(state["condition"], state["angle"], live_settings())
    a, b, c = state["covariance"]
    learned = TwoGaussians(state["mean"], [[a, b], [b, c]])
    robust = learned.robust_mle(state["radius"])
    rule = robust.classifier
    return {
        "multiplier": robust.multiplier,
        "wide": robust.eigenvalues[1].item(),
        "narrow": robust.eigenvalues[0].item(),
        "condition": robust.condition,
        "cosine": robust.cosine,
        "slope": (-rule.direction[0] / rule.direction[1]).item(),
        "clean_error": true.error(classifier=rule),
        "robust_error": true.error(state["radius"], classifier=rule),
        "standard_robust_error": true.error(state["radius"], classifier=learned.classifier),
    }


def assert_same(tab):
    state, numbers = shown(tab)
    expected = by_torch(state)
    assert set(numbers) == set(expected)
    for key, value in expected.items():
        if abs(value) < 1e12:
            assert numbers[key] == pytest.approx(value, rel=1e-8, abs=1e-14), (key, state)
    return state, numbers


@pytest.mark.browser
def test_each_slider_by_keyboard(opened):
    tab = opened(viewport={"width": 1280, "height": 900})
    before, _ = assert_same(tab)
    assert before["size"] == 0
    learned = '#live-figure [data-part="learned"][data-sign="1"][data-sigma="1"]'
    for name in ("radius", "condition", "angle", "size"):
        slider = tab.locator(f"#live-{name}")
        label = tab.locator(f"label[for=live-{name}]").inner_text()
        for key in ("ArrowLeft", "ArrowLeft", "PageUp", "Home", "ArrowRight", "End", "ArrowLeft"):
            was, drawn = shown(tab)[0][name], tab.locator("#live-figure").inner_html()
            slider.focus()
            tab.keyboard.press(key)
            state, numbers = assert_same(tab)
            if state[name] != was:
                assert tab.locator("#live-figure").inner_html() != drawn
        assert tab.locator(f"label[for=live-{name}]").inner_text() != label
        assert slider.get_attribute("aria-valuetext") == tab.locator(f"#shown-{name}").inner_text()
        axis = float(tab.locator(learned).get_attribute("rx"))
        assert axis == pytest.approx(math.sqrt(numbers["wide"]), rel=1e-6)
        ball = tab.locator('#live-figure [data-part="ball"]')
        assert float(ball.get_attribute("r")) == state["radius"]
    assert tab.locator("#live-figure .dot").count() == 300
    said = tab.locator("#said")
    assert said.get_attribute("aria-live") == "polite"
    assert "Robust error" in said.inner_text()


@pytest.mark.browser
def test_the_script_draws_what_the_file_holds(opened):
    positions = """all => all.map(e => [...e.attributes]
        .filter(a => /^(c?[xyr][12xy]?|transform)$/.test(a.name))
        .map(a => [a.name, a.value.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number)]))"""
    parts = "#live-figure [data-part]:not(g)"
    still = opened(java_script_enabled=False)
    assert not still.locator("#live").is_visible()
    assert still.locator("svg.panel:visible").count() == 3
    assert still.locator("svg.chart:visible").count() == 5
    static = opened(viewport={"width": 1280, "height": 900})
    drawn = static.eval_on_selector_all(parts, positions)
    held = still.locator(parts).evaluate_all(positions)
    for now, then in zip(drawn, held, strict=True):
        for (name, ours), (same, theirs) in zip(sorted(now), sorted(then), strict=True):
            assert name == same
            assert ours == pytest.approx(theirs, abs=2e-4)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_accessible_and_within_the_window(opened, scheme, width):
    tab = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    if width != 2560:
        tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert faults(tab, scheme=scheme) == ""


def test_live_stops_include_the_papers_radii():
    settings = live_settings()
    assert {0.0, 1.0, 10.0} <= set(settings["radii"])
    for name in ("radii", "conditions", "angles"):
        assert settings[name] == sorted(set(settings[name]))
    radii = torch.tensor(settings["radii"][1:], dtype=torch.float64)
    variances = torch.tensor([0.2, 10.0], dtype=torch.float64).expand(len(radii), 2)
    assert (relaxed_eigenvalues(variances, relaxed_multiplier(variances, radii)) > variances).all()
