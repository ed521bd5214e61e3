"""Figures and tables for a paper: their sizes, fonts and numbers, and that no name can break them."""

from __future__ import annotations

import csv
import re
import zlib
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from PIL import Image

from notbugs.__main__ import main
from notbugs.content import Table
from notbugs.formats import percent
from notbugs.measure import Proportion, correlation
from notbugs.measure._transfer import Transfer, TransferAttack, Transferred
from notbugs.measure.spectrum import KINDS
from notbugs.report import paper, write_figures
from notbugs.report.figures import figures, fitted, write_picture
from notbugs.report.tables import comma_separated, fields, latex, markdown, md, tables, tex
from notbugs.study.instruments.transfer import Learner, TransferResult
from notbugs.study.instruments.usefulness import UsefulnessResult
from notbugs.study.results import Measured, Results, TheoryCheck
from tests import fakes
from tests.fakes import HOSTILE, proportion
from tests.test_audit_page import usefulness

pytestmark = pytest.mark.whole

STUDY = Path(__file__).parent / "data" / "instruments.json"
WIDE = {"images", "shares-nonrobust-images"}
CHARTS = {"figure-2b", "against-radius-1", "against-radius-2", "usefulness-standard", "transfer-untargeted",
          "transfer-targeted", "shares-nonrobust"}  # fmt: skip
FULL = CHARTS | WIDE
TABLES = {
    "accuracy",
    "table-1",
    "sets",
    "theory",
    "usefulness-1",
    "usefulness-2",
    "shares",
    "transfer-1",
    "transfer-2",
    "transfer-3",
}


def transfer() -> TransferResult:
    names, shares = ("cnn", "vgg", "a_b & c"), (0.4, 0.5, 0.61)
    attack = TransferAttack(
        norm="l2", eps=0.5, steps=20, step_size=1.0, decay="linear", restarts=1, targets="next", seed=0
    )
    pairs = [
        Transferred(
            source="standard", classifier=name, accuracy=proportion(0.9, 200), untargeted=proportion(share, 200),
            untargeted_of_correct=None, targeted=proportion(share / 3, 200), targeted_of_correct=None,
            already_target=proportion(0.02, 200),
        )
        for name, share in zip(names, shares, strict=True)
    ]  # fmt: skip
    learners = [
        Learner(
            architecture=pair.classifier, classifier=pair.classifier, parameters=1000 + place,
            learned=proportion(0.2 + place / 10, 200), untargeted=pair.untargeted, targeted=pair.targeted,
        )
        for place, pair in enumerate(pairs)
    ]  # fmt: skip
    learned = [learner.learned.value for learner in learners]
    fooled = {
        kind: correlation(learned, [getattr(pair, kind).value for pair in pairs]) for kind in ("untargeted", "targeted")
    }
    return TransferResult(
        source="standard", learners=learners, matrix=Transfer(attack=attack, pairs=tuple(pairs)), **fooled
    )


def results(*, hostile: bool = False) -> Results:
    """A study that has everything there is a figure or a table of."""
    measured = Measured(
        usefulness=UsefulnessResult(classifiers={"standard": usefulness(list(KINDS) * 3)}, test_set="test"),
        transfer=transfer(),
        shares=Measured.model_validate_json(STUDY.read_text(encoding="utf-8")).shares,
    )
    check = TheoryCheck(
        classifier="standard", pair=HOSTILE[:2] if hostile else ("3", "8"), norm="l2", radii=[0, 0.5], moved=[0, 1.2],
        predicted=[0.99, 0.4], measured=[proportion(0.98, 70), proportion(0.35, 70)], shrinkage=0.1,
    )  # fmt: skip
    return fakes.results(hostile=hostile).model_copy(update={"instruments": measured, "theory": [check]})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    fakes.write_study(folder)
    (folder / "results.json").write_text(results().model_dump_json(by_alias=True))
    return folder


@pytest.fixture(scope="module")
def written(study):
    return write_figures(study)


def opened(path: Path) -> Image.Image:
    return Image.open(BytesIO(path.read_bytes()))


# Figures


def test_everything_that_the_run_has_is_written_in_every_format(study, written):
    assert written == study / "figures"
    found = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    wanted = {f"full/{name}.{kind}" for name in FULL for kind in ("svg", "pdf", "png")}
    wanted |= {f"half/{name}.{kind}" for name in CHARTS for kind in ("svg", "pdf", "png")}
    wanted |= {f"tables/{name}.{kind}" for name in TABLES for kind in ("tex", "md", "csv")}
    assert found == wanted | {"figures.tex", "figures.md"}
    assert opened(written / "full" / "images.png").width == 2200


@pytest.mark.parametrize(("width", "inches"), [("full", 5.5), ("half", 2.6875)])
def test_figures_have_the_widths_of_neurips(written, width, inches):
    """The same in every format and with any fonts installed; PNGs have 400 pixels an inch."""
    for path in (written / width).glob("*.svg"):
        drawn = ElementTree.parse(path).getroot()
        assert float(drawn.attrib["width"]) / 96 == inches, path.name
        box = re.search(rb"/MediaBox ?\[([^\]]*)\]", path.with_suffix(".pdf").read_bytes())
        assert box
        assert float(box[1].split()[2]) / 72 == pytest.approx(inches, abs=0.001), path.name
        picture = opened(path.with_suffix(".png"))
        assert abs(picture.width - 400 * inches) <= 1, path.name
        assert picture.info["dpi"][0] == pytest.approx(400, abs=1)


def test_a_pdf_has_the_same_bytes_each_time(tmp_path):
    shades = "".join(f'<rect width="9" height="9" opacity="0.{n}"/>' for n in range(1, 9))
    drawn = Markup(f'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" viewBox="0 0 20 20">{shades}</svg>')
    for name in "ab":
        write_picture(tmp_path / name, drawn)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()


def test_pdfs_embed_their_fonts_and_nothing_is_dark(written):
    for path in written.rglob("*.pdf"):
        pdf = path.read_bytes()
        plain = b"".join([pdf, *inflated(pdf)])
        fonts = set(re.findall(rb"/BaseFont ?/([\w+-]+)", plain))
        assert fonts, path.name
        assert all(re.fullmatch(rb"[A-Z]{6}\+LiberationSerif", font) for font in fonts), fonts  # shipped, and a subset
        assert len(re.findall(rb"/FontFile[23]?\b", plain)) >= 1
    for path in written.rglob("*.png"):
        picture = opened(path).convert("RGBA")
        assert picture.getpixel((0, 0)) == (255, 255, 255, 255)
        assert len(picture.getcolors(1_000_000) or [1] * 99) > 10  # something is drawn


def inflated(pdf: bytes) -> list[bytes]:
    """The streams of a PDF that hold objects."""
    found = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            found.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return found


def test_text_has_the_size_and_face_of_a_paper(written):
    """9 points, and none below 8, but for subscripts; serif throughout."""
    for path in written.rglob("*.svg"):
        text = path.read_text(encoding="utf-8")
        sizes = {float(size) * 0.75 for size in re.findall(r'font-size="([\d.]+)(?:px)?"', text)}
        assert sizes
        assert min(sizes) >= 8
        assert max(sizes) <= 10
        families = set(re.findall(r'font-family="([^"]+)"', text))
        assert all(family.startswith("Liberation Serif") for family in families), families
        assert "var(" not in text


def test_the_bars_show_the_values_of_the_run_and_the_papers(written):
    drawn = (written / "full" / "figure-2b.svg").read_text(encoding="utf-8")
    for (train_set, training), theirs in paper.TABLE_7.items():
        values = fakes.ACCURACIES[
            train_set, training, {"D": "standard"}.get(train_set, train_set) if training == "standard" else "robust"
        ]
        ours = [percent(proportion(values[place] / 100, 360).value) for place in (0, 1)]
        assert all(f">{value}<" in drawn for value in ours[:1])
        assert f"paper {100 * theirs.clean:.4g} %" in drawn
    assert drawn.count("the paper (CIFAR-10, ResNet-50)") == 1
    assert "<title>Bars. D, standard training" in drawn


def test_captions_say_attack_norm_radius_n_seed_and_interval(written):
    for name in ("figures.tex", "figures.md"):
        text = (written / name).read_text(encoding="utf-8")
        bars = next(part for part in text.split("\n\n") if "Diamonds: the paper, Table 7" in part)
        for words in ("PGD with 20 steps and 2 restarts", "0.25", "360 test images of digits", "seed 0", "Wilson"):
            assert words in bars, words
    assert text.count("![") == len(FULL)
    assert (written / "figures.tex").read_text().count(r"\includegraphics{full/") == len(FULL)


def test_the_command_writes_a_study_without_instruments_or_gallery_without_gaps(tmp_path, capsys):
    fakes.write_study(tmp_path, with_gallery=False)
    out = tmp_path / "elsewhere"
    assert main(["figures", str(tmp_path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert {path.stem for path in (out / "full").iterdir()} == {"figure-2b", "against-radius-1", "against-radius-2"}
    assert {path.stem for path in (out / "tables").iterdir()} == {"accuracy", "table-1", "sets"}


def test_names_of_users_cannot_break_a_figure():
    hostile = fakes.gallery(channels=3)
    found = next(figure for figure in figures(results(hostile=True), hostile) if figure.name == "images")
    drawn = fitted(found, "full")
    assert drawn
    ElementTree.fromstring(drawn)  # well-formed
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert "{{ 7 * 7 }}" in drawn  # as it is, and not worked out


def test_a_long_name_of_a_class_is_cut():
    made = fakes.results().study
    study = made.model_copy(update={"data": made.data | {"classes": ["a class with a very long name"] * 10}})
    found = next(
        f for f in figures(fakes.results().model_copy(update={"study": study}), fakes.gallery()) if f.name == "images"
    )
    assert "a clas\u2026 name<" in str(fitted(found, "full"))


# Tables


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            r"50 % & $1 #2 a_b {c} ~d ^e \f",
            r"50 \% \& \$1 \#2 a\_b \{c\} \textasciitilde{}d \textasciicircum{}e \textbackslash{}f",
        ),
        (
            "D_rand_other, D_NR",
            r"$\widehat{\mathcal{D}}_{\mathrm{rand}}$ (other), $\widehat{\mathcal{D}}_{\mathrm{NR}}$",
        ),
        ("MY_D_R and D_Rx", r"MY\_D\_R and D\_Rx"),
        ("l2 0.5, l-inf", r"$\ell_2$ 0.5, $\ell_\infty$"),
        ("95\u00a0% of 1\u20132", r"95~\% of 1--2"),
        ("--out <x>|y", r"-{}-out \textless{}x\textgreater{}\textbar{}y"),
        ("two\nlines\r\n\n\\par\x00", r"two lines \textbackslash{}par"),
    ],
)
def test_tex(text, wanted):
    assert tex(text) == wanted


def test_markdown_escapes():
    assert md("D_R | *a* `b` <c> x_y [z] & w") == r"D<sub>R</sub> \| \*a\* \`b\` &lt;c&gt; x\_y \[z\] &amp; w"


@pytest.mark.parametrize(
    "name", [*HOSTILE, r"\input{/etc/passwd}", "100% & more_ #1 $x$ {y}", "a\\\\[2em]", "% }\n\\end{table}"]
)
def test_no_name_breaks_latex(name):
    """Braces balance, nothing is a comment, every row has its cells, and no command is a user's."""
    table = Table(name, (name, "value"), [[name, proportion(0.5, 40)], ["[x", 3]])
    made = latex(table, "t")
    bare = made.replace(r"\textbackslash{}", "").replace(r"\{", "").replace(r"\}", "").replace(r"\%", "")
    assert bare.count("{") == bare.count("}")
    assert "%" not in bare
    rows = made.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [1, 1]
    assert rows[1].startswith("{}[x")
    known = {"begin", "end", "caption", "label", "centering", "small", "setlength", "tabcolsep", "toprule", "midrule",
             "bottomrule", "scriptsize"}  # fmt: skip
    used = set(re.findall(r"\\([a-zA-Z]+)", made))
    assert all(word in known or word.startswith("text") for word in used), used


def test_a_wide_table_is_scaled_to_the_text():
    wide = Table("wide", ["x"] * 12, [[proportion(0.5, 40)] * 12])
    assert r"\resizebox{\linewidth}{!}{%" in latex(wide, "wide")
    assert latex(wide, "wide").count(r"\end{tabular}}") == 1
    assert "resizebox" not in latex(Table("narrow", ["x"], [[1]]), "narrow")


def test_a_table_of_every_kind_of_cell():
    table = Table(
        "kinds", ("name", "share", "number", "truth", "none"), [["a", proportion(0.9, 360), 1234, True, None]]
    )
    line = markdown(table).splitlines()[-1]
    assert line == "| a | 90.0 (86.5 to 92.7) | 1,234 | yes |  |"
    assert "---:" in markdown(table).splitlines()[3]
    assert "90.0 {\\scriptsize 86.5--92.7} & 1,234 & yes &  \\\\" in latex(table, "kinds")
    share = proportion(0.9, 360)
    named = {"name": "a", "share": 0.9, "share low": share.low, "share high": share.high, "share n": 360}
    assert fields(table) == [named | {"number": 1234, "truth": True, "none": None}]
    assert comma_separated(fields(table)).splitlines()[0] == "name,share,share low,share high,share n,number,truth,none"


def test_every_accuracy_is_a_tidy_row(written):
    made = results()
    rows = list(csv.DictReader((written / "tables" / "accuracy.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(made.rows)
    for row, measured in zip(rows, made.rows, strict=True):
        assert [float(row[name]) for name in ("value", "low", "high")] == [
            measured.accuracy,
            measured.low,
            measured.high,
        ]
        assert (row["classifier"], int(row["n"]), int(row["seed"])) == (measured.classifier, measured.n, measured.seed)
        if attack := measured.attack:
            used = (row["attack"], row["norm"], float(row["radius"]), int(row["steps"]), int(row["restarts"]))
            assert used == ("pgd", attack.norm, attack.eps, attack.steps, attack.restarts)
        else:
            assert not row["attack"] + row["norm"] + row["radius"] + row["steps"] + row["restarts"]


def test_every_property_of_a_set_is_a_tidy_row(written):
    rows = list(csv.DictReader((written / "tables" / "sets.csv").read_text(encoding="utf-8").splitlines()))
    for made in results().sets:
        mine = {(row["measure"], row["statistic"]): row for row in rows if row["set"] == made.name}
        share: Proportion = made.success_independent
        kept = mine["success_independent", "share"]
        assert [float(kept[name]) for name in ("value", "low", "high", "n")] == [
            share.value,
            share.low,
            share.high,
            share.n,
        ]
        assert float(mine["l2", "median"]["value"]) == made.l2.median
        assert (("matching_loss", "mean") in mine) == (made.kind == "matched")


def test_the_accuracy_table_has_every_member_and_says_what_it_is(written):
    made = (written / "tables" / "accuracy.tex").read_text(encoding="utf-8")
    assert made.count(r"\scriptsize") == 8 * 4
    for words in (
        "PGD with 20 steps and 2 restarts",
        r"$\ell_2$ radii",
        "n = 360 test images of digits",
        "seed 0",
        "Wilson",
    ):
        assert words in made
    assert r"\begin{tabular}{@{}llrrrr@{}}" in made


def test_a_d_that_stands_alone_is_the_original_set_but_no_class_is(written):
    made = (written / "tables" / "accuracy.tex").read_text(encoding="utf-8")
    assert r"{}$\mathcal{D}$ & standard & " in made
    assert tex("D") == "D"


def test_tables_of_instruments_carry_n_seed_and_interval_and_their_text(written):
    made = (written / "tables" / "transfer-1.tex").read_text(encoding="utf-8")
    assert r"95~\% Wilson intervals over images, n = 200; seed 0." in made
    assert made.startswith("% Adversarial examples of one classifier, shown to the others: PGD with 20 steps")
    assert r"3: a\_b \& c" in made
    rows = list(csv.DictReader((written / "tables" / "transfer-1.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["learned from D_det n"]) for row in rows] == [200] * 3


def test_table_1_stands_beside_the_papers():
    found = {table.name: table for table in tables(results())}["table-1"]
    assert [row[0] for row in found.table.rows] == ["D", "D_rand", "D_rand_other", "D_det"]
    assert [row[3] for row in found.table.rows] == ["95.3", "63.3", None, "43.7"]
    assert [row["paper"] for row in found.rows] == [0.953, 0.633, None, 0.437]


def test_captions_say_that_test_images_are_held_out():
    measured = Measured.model_validate_json(STUDY.read_text(encoding="utf-8"))
    made = results().model_copy(update={"instruments": measured})
    rows = [row.model_copy(update={"test_set": "heldout"}) for row in made.rows]
    for found, is_said in ((made, False), (made.model_copy(update={"rows": rows}), True)):
        captions = [table.table.caption for table in tables(found)] + [one.caption for one in figures(found, None)]
        of_images = [caption for caption in captions if "test images" in caption]
        assert of_images
        assert all(("held out of the training split" in caption) == is_said for caption in of_images)


def test_no_rows_are_an_empty_file():
    assert comma_separated([]).strip() == ""


def test_what_images_carry_is_numbers_with_intervals(written):
    found = results().instruments.shares.rows
    rows = list(csv.DictReader((written / "tables" / "shares.csv").read_text(encoding="utf-8").splitlines()))
    told = [row for row in rows if row["new class carried"]]
    carried = [row.found.nonrobust.new.carried for row in found if row.found.nonrobust]
    assert [float(row["new class carried low"]) for row in told] == [mean.low for mean in carried if mean]
    assert [int(row["new class carried n"]) for row in told] == [mean.n for mean in carried if mean]


# The command


def test_mistakes_are_one_line(tmp_path, capsys):
    assert main(["figures", str(tmp_path)]) == 2
    assert "There is no" in capsys.readouterr().err
    fakes.write_study(tmp_path)
    (tmp_path / "file").touch()
    assert main(["figures", str(tmp_path), "--out", str(tmp_path / "file")]) == 2
    assert "'out' must be a folder" in capsys.readouterr().err
