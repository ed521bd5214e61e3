"""The report: what it claims, and that it shows every number and nothing that a user's text could run."""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pytest
from safetensors.numpy import save_file

from notbugs.errors import InputError
from notbugs.formats import duration, number
from notbugs.measure.statistics import against_chance, compare, wilson
from notbugs.report import paper, require_extra, write_report
from notbugs.report.accuracies import diamonds, figure_2b, study_accuracies
from notbugs.report.cautions import cautions
from notbugs.report.claims import claims as claims_of
from notbugs.report.page import render
from notbugs.report.pictures import png, sample_grid
from notbugs.report.shell import shown, text_of
from notbugs.report.wording import class_names
from notbugs.report.wording import html as sets
from notbugs.study.recipe import flat
from notbugs.study.results import Results
from tests import fakes
from tests.fakes import row

pytestmark = pytest.mark.whole


class Page(HTMLParser):
    """What a browser would make of the page: tags, attributes, text and machine-readable values."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.values, self.words, self.scripts = [], [], [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.kind = dict(attrs).get("type", "text/javascript")
        if tag == "data":
            self.values.append(float(dict(attrs)["value"]))

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.cdata_elem == "script":
            self.scripts += [data] if self.kind == "text/javascript" else []
        else:
            self.words.append(data)


def study(rows, made=()):
    return Results(study=fakes.study(), rows=rows, sets=list(made))


def claims(rows, made=(), classes=10):
    results = study(rows, made)
    return {claim.about: claim for claim in claims_of(study_accuracies(results), results, classes)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    results = fakes.write_study(folder)
    return results, write_report(folder)


@pytest.fixture(scope="module")
def page(plain):
    return Page(plain[1].read_text(encoding="utf-8"))


# What is claimed


def test_intervals_decide():
    low, high, near = row(accuracy=0.5, n=1000), row(accuracy=0.6, n=1000), row(accuracy=0.53, n=1000)
    assert [compare(high, low), compare(low, high), compare(low, near)] == ["higher", "lower", "unclear"]
    held = [against_chance(low.share, chance) for chance in (0.1, 0.9, 0.51)]
    assert held == ["higher", "lower", "unclear"]


def test_touching_intervals_claim_nothing():
    a, b = row(accuracy=0.5, low=0.4, high=0.6), row(accuracy=0.7, low=0.6, high=0.8)
    assert compare(a, b) == compare(b, a) == "unclear"
    assert against_chance(a.share, 0.6) == "unclear"


@pytest.mark.parametrize(
    ("on_d", "on_d_r", "verdict", "words"),
    [
        (0.38, 0.48, "agrees", "D_R gives the higher robust accuracy"),
        (0.48, 0.38, "disagrees", "D_R gives the lower robust accuracy"),
        (0.40, 0.41, "open", "no difference can be claimed"),
    ],
)
def test_robust_features(on_d, on_d_r, verdict, words):
    claim = claims([row("D", on_d, eps=0.25, n=1000), row("D_R", on_d_r, eps=0.25, n=1000)])["Robust features"]
    assert claim.verdict == verdict
    assert words in claim.text
    assert f"{100 * on_d:.1f}" in claim.text
    assert f"{100 * on_d_r:.1f}" in claim.text
    assert not claim.more


@pytest.mark.parametrize(
    ("clean", "verdict", "words"),
    [(0.5, "agrees", ""), (0.1, "open", "cannot be told from chance"), (0.02, "open", "below chance")],
)
def test_robustness_of_a_classifier_that_knows_nothing_says_nothing(clean, verdict, words):
    rows = [row("D", 0.02, eps=0.25, n=1000), row("D_R", 0.1, eps=0.25, n=1000), row("D_R", clean, n=1000)]
    claim = claims(rows)["Robust features"]
    assert claim.verdict == verdict
    assert words in claim.short
    assert words in claim.text


def test_naming_the_largest_of_unequal_classes_is_no_knowledge():
    constant, knowing = fakes.proportion(0.5, 1000), fakes.proportion(0.7, 1000)
    for balanced, verdict in ((constant, "open"), (knowing, "agrees")):
        found = claims(
            [row(name, 0.73, n=1000, balanced=balanced) for name in ("D_NR", "D_det", "D_rand_other")], classes=2
        )
        for about in ("Non-robust features", "Relabelled images"):
            assert found[about].verdict == verdict
            assert f", balanced {100 * balanced.value:.1f}" in found[about].short
    assert (
        "none of which can be told from chance (50"
        in claims([row(name, 0.73, n=1000, balanced=constant) for name in ("D_det", "D_rand_other")], classes=2)[
            "Relabelled images"
        ].short
    )


@pytest.mark.parametrize(("classes", "right"), [(43, 60), (43, 62), (1000, 8), (10, 240), (1000, 0)])
def test_a_printed_interval_is_on_the_side_of_chance_that_it_is_unrounded(classes, right):
    """What is told goes by the exact test, which may leave open what Wilson's interval, which is printed, tells."""
    n = 2000
    claim = claims([row("D_det", right / n, n=n)], classes=classes)["Relabelled images"]
    low, high, side, chance = re.search(
        r"\(([\d.]+) to ([\d.]+)\) after training on D_det, (above|below|which cannot be told from) chance \(([\d.]+)",
        claim.short,
    ).groups()
    share = wilson(right, n)
    ends = float(low) > float(chance), float(high) < float(chance)
    assert ends == (share.low > 1 / classes, share.high < 1 / classes)
    told = {"higher": "above", "lower": "below", "unclear": "which cannot be told from"}
    assert side == told[against_chance(share, 1 / classes)]


def test_another_radius_that_changes_the_answer_is_named():
    rows = [row("D", share, eps=eps, n=1000) for eps, share in ((0.25, 0.95), (0.5, 0.6), (1, 0.0))]
    rows += [row("D_R", share, eps=eps, n=1000) for eps, share in ((0.25, 0.9), (0.5, 0.5), (1, 0.04))]
    claim = claims(rows)["Robust features"]
    assert claim.verdict == "disagrees"
    assert "radius 1 the answer differs: D_R gives the higher" in claim.more
    assert "radius 0.5" not in claim.more


@pytest.mark.parametrize(
    ("clean", "robust", "verdict"),
    [(0.6, 0.1, "agrees"), (0.6, 0.4, "open"), (0.6, 0.6, "disagrees"), (0.1, 0.1, "open"), (0.05, 0.1, "disagrees")],
)
def test_non_robust_features(clean, robust, verdict):
    rows = [row("D_NR", clean, n=1000), row("D_NR", robust, eps=0.25, n=1000), row("D_R", 0.41, eps=0.25, n=1000)]
    assert claims(rows)["Non-robust features"].verdict == verdict


@pytest.mark.parametrize(("clean", "verdict"), [(0.5, "agrees"), (0.1, "open"), (0.02, "open")])
def test_to_be_less_robust_than_a_classifier_that_knows_nothing_is_nothing(clean, verdict):
    """One that names one class everywhere keeps a tenth of ten classes at every radius."""
    rows = [row("D_NR", 0.6, n=1000), row("D_NR", 0.0, eps=0.25, n=1000)]
    rows += [row("D_R", clean, n=1000), row("D_R", 0.1, eps=0.25, n=1000)]
    claim = claims(rows)["Non-robust features"]
    assert claim.verdict == verdict
    assert ("but the clean accuracy of D_R is" in claim.short) == (verdict == "open")


@pytest.mark.parametrize(
    ("other", "det", "verdict", "words"),
    [
        (0.34, 0.3, "agrees", "above chance (10\u00a0%)"),
        (0.1, 0.3, "open", "cannot be told from chance"),
        (0.02, 0.3, "disagrees", "below chance"),
        (0.34, 0.02, "disagrees", "below chance"),
    ],
)
def test_relabelled_images(other, det, verdict, words):
    rows = [row("D_rand_other", other, n=1000), row("D_det", det, n=1000)]
    claim = claims(rows)["Relabelled images"]
    assert claim.verdict == verdict
    assert words in claim.text
    assert ("below chance means" in claim.more) == ("below" in words)


def test_d_rand_alone_is_weak_evidence():
    claim = claims([row("D_rand", 0.9)], [fakes.properties("D_rand")])["Relabelled images"]
    assert claim.verdict == "open"
    assert "weak evidence" in claim.more
    assert "10.2" in claim.more


def test_nothing_measured_claims_nothing():
    assert list(claims([row("D", 0.9)])) == []


def test_the_line_up_takes_first_seed_strongest_attack_and_l2():
    rows = [row("D", 0.5, eps=0.25), row("D", 0.4, eps=0.25), row("D", 0.1, eps=0.25, seed=1)]
    rows += [row("D", 0.2, eps=0.03, norm="linf"), row("D", 0.3, eps=0.25, classifier="independent")]
    rows += [row("D", 0.6, eps=0.1, test_set="heldout")]
    accuracies = study_accuracies(study(rows))
    found = accuracies.get("D")
    assert (accuracies.norm, accuracies.radii, accuracies.radius, accuracies.seed) == ("l2", (0.25,), 0.25, 0)
    assert found
    assert found.robust[0.25].accuracy == 0.4


@pytest.mark.parametrize(("trained", "main"), [(0.5, 0.25), (1.0, 0.5), (4.0, 1.0), (None, 0.25)])
def test_the_main_radius_is_half_of_the_training_radius(trained, main):
    results = study([row("D", 0.5, eps=eps) for eps in (0.25, 0.5, 1.0)])
    recipe = {"robust": {"adversary": {"eps": trained}}} if trained else {"seed": 0}
    info = results.study.model_copy(update={"recipe": recipe})
    assert study_accuracies(results.model_copy(update={"study": info})).radius == main


def test_cautions():
    rows = [row("D", 0.9, eps=0.25), row("D", 0.9, eps=0.25, training="adversarial")]
    rows += [row("D_R", 0.9, eps=0.25)]
    made = [
        fakes.properties("D_R", distance_to_target=fakes.spread(0.2)),
        fakes.properties("D_det", success_source_changed=fakes.proportion(0.43, 1000)),
        fakes.properties("D_rand", success_8bit=fakes.proportion(0.5, 1000)),
    ]
    results = study(rows, made)
    text = "\n".join(cautions(results, study_accuracies(results)))
    for words in ("only 360 test images", "cannot be shown to be more robust", "nearly reproduces", "43.0", "8-bit"):
        assert words in text
    large = study([row("D", 0.9, n=10_000)], [fakes.properties("D_R")])
    other = row("D_det", 0.9, n=10_000).model_copy(update={"classifier": "D_det", "architecture": "cnn width=8"})
    (networks,) = cautions(two := study([*large.rows, other], []), study_accuracies(two))
    assert "trained on D_det have another network than those trained on D (cnn width=8; cnn)" in networks
    recipe = large.study.recipe | {"group_pattern": "{group}_*"}
    grouped = large.model_copy(update={"study": large.study.model_copy(update={"recipe": recipe})})
    assert "intervals are too narrow" in " ".join(cautions(grouped, study_accuracies(grouped)))
    assert cautions(large, study_accuracies(large)) == []


@pytest.mark.parametrize(
    ("norm", "trained", "theirs"), [("l2", 0.5, 48.2), ("l2", 1.0, 21.85), ("l2", 2.0, None), ("linf", 0.5, None)]
)
def test_a_bar_has_the_papers_number_of_its_own_radius(norm, trained, theirs):
    rows = [row("D_R", 0.5, eps=eps, norm=norm) for eps in (0.25, 0.5, 1.0)]
    results = study([row("D_R", 0.9), *rows])
    info = results.study.model_copy(update={"recipe": {"robust": {"adversary": {"eps": trained}}}})
    accuracies = study_accuracies(results.model_copy(update={"study": info}))
    drawn = figure_2b(accuracies, width=400)
    robust = re.search(r"robust accuracy, [^;]*?50.0 %(, paper [\d.]+ %)?", drawn)
    assert (robust[1] or "") == ("" if theirs is None else f", paper {theirs} %")
    assert "clean accuracy 90.0 %, paper 85.4 %" in drawn
    assert f"radius {trained / 2:g}" in diamonds(accuracies)
    assert ("clean alone" in diamonds(accuracies)) == (theirs is None)


def test_the_papers_numbers_are_ordered():
    for values in paper.TABLE_7.values():
        assert values.clean > values.robust >= values.robust_wide


# What is shown


def test_every_number_is_on_the_page(plain, page):
    results, _ = plain
    for measured in results.rows:
        assert {measured.accuracy, measured.low, measured.high} <= set(page.values)
        assert f"{100 * measured.accuracy:.1f}" in page.text
    for made in results.sets:
        shares = (made.kept_label, made.success_source, made.success_independent, made.success_8bit)
        assert {share.value for share in shares} <= set(page.values)
        spreads = [spread for spread in (made.l2, made.linf, made.matching_loss, made.distance_to_target) if spread]
        for spread in spreads:
            assert all(number(value) in page.text for value in (spread.median, spread.mean, spread.p95, spread.max))
    for value in flat(results.study.recipe).values():
        assert shown(value) in page.text
    for digest in (*results.study.classifiers.values(), results.study.data["fingerprint"], results.study.command):
        assert digest in page.text


def test_the_table_of_every_number_has_a_line_for_every_row(plain):
    results, path = plain
    table = re.search(r'id="numbers".*?<tbody>(.*?)</tbody>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert table
    lines = [[float(value) for value in re.findall(r'<data value="([^"]+)"', line)] for line in table[1].split("</tr>")]
    assert [line[:3] for line in lines[:-1]] == [[row.accuracy, row.low, row.high] for row in results.rows]


def test_one_offline_file(plain, page):
    assert plain[1].stat().st_size < 3_000_000
    loading = [(tag, value) for tag, name, value in page.attributes if name in ("src", "href") and tag != "a"]
    assert {tag for tag, _ in loading} == {"img", "image"}
    assert loading
    assert all(value.startswith("data:image/png;base64,") for _, value in loading)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert page.scripts == [text_of("gallery.js")]
    assert "url(" not in plain[1].read_text(encoding="utf-8")


def test_the_policy_allows_the_one_script_and_nothing_else(page):
    policies = [value for tag, name, value in page.attributes if (tag, name) == ("meta", "content") and "-src" in value]
    digest = b64encode(sha256(page.scripts[0].encode()).digest()).decode()
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'; ")
    assert f"; script-src 'sha256-{digest}'; " in policies[0]
    assert "</" not in page.scripts[0]


def test_structure(page):
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    assert {"header", "nav", "footer"} <= set(page.tags)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    alts = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert len(alts) == page.tags.count("img")
    assert "D_R, trains as 3, started from an image of 1" in alts


def test_hostile_text_is_inert(tmp_path):
    fakes.write_study(tmp_path, hostile=True)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert page.scripts == [text_of("gallery.js")]
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(text in page.text for text in fakes.HOSTILE)
    assert "x" not in [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]


def test_no_gaps_where_the_run_has_no_sets(tmp_path):
    results = fakes.results().model_copy(update={"sets": []})
    (tmp_path / "results.json").write_text(results.model_dump_json(by_alias=True))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "Accuracy, clean and robust" in page.text
    assert "The constructed sets" not in page.text
    assert "side by side" not in page.text
    targets = {value[1:] for tag, name, value in page.attributes if (tag, name) == ("a", "href") and value[0] == "#"}
    assert targets <= {value for _, name, value in page.attributes if name == "id"}


def test_a_study_without_accuracies_is_none(tmp_path):
    results = fakes.results().model_copy(update={"rows": []})
    (tmp_path / "results.json").write_text(results.model_dump_json(by_alias=True))
    with pytest.raises(InputError, match="rows: List should have at least 1 item"):
        write_report(tmp_path)


def test_the_same_study_gives_the_same_page(plain):
    _, path = plain
    before = path.read_bytes()
    write_report(path.parent)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["gallery.safetensors", "report.html", "results.json"]


# What can be wrong


def test_a_missing_study_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no .*results\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 2}', '{"schema": 1, "rows": []}'])
def test_malformed_results(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match="is not a results file|results.json is damaged"):
        write_report(tmp_path)


@pytest.mark.parametrize("damage", ["bytes", "no D", "shape", "channels"])
def test_malformed_gallery_leaves_the_old_page(tmp_path, damage):
    fakes.write_study(tmp_path)
    (tmp_path / "report.html").write_text("old")
    path = tmp_path / "gallery.safetensors"
    arrays = fakes.gallery(channels=2 if damage == "channels" else 1)
    if damage == "shape":
        arrays["D_R"] = arrays["D_R"][:3]
    if damage == "no D":
        del arrays["D"]
    save_file(arrays, path)
    if damage == "bytes":
        path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a gallery"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_missing_library_is_named(monkeypatch):
    require_extra()
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(InputError, match=r"altair.*pip install 'notbugs\[report\]'"):
        require_extra()


# Pictures and words


def test_pictures_fit_the_budget(monkeypatch):
    arrays = fakes.gallery(k=12, channels=3, side=32)
    full = sample_grid(arrays, list("0123456789"))
    assert (len(full.rows), full.left_out, full.side, full.pixelated) == (12, 0, 96, True)
    monkeypatch.setattr("notbugs.report.pictures.BUDGET", 1)
    least = sample_grid(arrays, ["only one name"])
    assert (len(least.rows), least.left_out) == (1, 11)
    assert least.rows[0][0].label == "only one name"


def test_curves_without_the_sets_beyond_the_paper_say_so():
    rows = [row(name, 0.5, eps=eps) for name in ("D", "D_R", "D_bugs") for eps in (None, 0.25)]
    for names, is_said in ((("D", "D_R"), False), (("D", "D_R", "D_bugs"), True)):
        made = study([one for one in rows if one.train_set in names], [fakes.properties("D_bugs")])
        figure = re.search(r'id="radius".*?</figure>', render(made, None), re.DOTALL)[0]
        assert ("but for those of" in figure) == is_said
        assert "D_bugs" not in figure.split("<figcaption>")[0]


def test_rows_of_one_class_are_not_said_to_be_of_others():
    """Of many classes few may have images."""
    made = fakes.results()
    info = made.study.model_copy(update={"data": made.study.data | {"classes": [*map(str, range(43))]}})
    few = fakes.gallery() | {"D.labels": np.arange(12) % 5}
    for gallery, is_said in ((fakes.gallery() | {"D.labels": np.arange(12)}, True), (few, False)):
        page = render(made.model_copy(update={"study": info}), gallery)
        assert ("each of another of the 43 classes" in page) == is_said


def test_different_starts_have_their_own_columns():
    arrays = fakes.gallery()
    arrays["D_NR.start"] = np.zeros_like(arrays["D_NR.start"])
    names = [name for name, _ in sample_grid(arrays, []).columns]
    assert names[:3] == ["D", "start of D_R", "start of D_NR"]


def test_pictures_keep_their_pixels():
    from io import BytesIO

    from PIL import Image

    image = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)
    read = Image.open(BytesIO(b64decode(png(image).partition(",")[2])))
    assert np.array_equal(np.asarray(read), np.rint(image * 255).astype(np.uint8).transpose(1, 2, 0))


def test_words():
    assert sets("D_R & <b>") == "<span class=set>D<sub>R</sub></span> &amp; &lt;b&gt;"
    assert sets("D_rand_other") == "<span class=set>D<sub>rand, other</sub></span>"
    assert sets("D_Random AD_R") == "D_Random AD_R"
    assert [duration(s) for s in (0.42, 12.3, 185, 3725)] == ["0.4 s", "12 s", "3 min 5 s", "1 h 2 min"]
    assert [number(n) for n in (1437, 0.123456, 2.0)] == ["1,437", "0.1235", "2"]
    assert class_names(2) == ["0", "1"]
    assert flat({"a": {"b": {"c": 1}}, "d": {}}) == {"a.b.c": 1}
    assert [shown(v) for v in (None, True, 1e-4, [1, 2.5])] == ["none", "yes", "0.0001", "1, 2.5"]
