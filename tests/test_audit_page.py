"""The page of an audit: every number of audit.json, nothing that a user's text could run, legible in both themes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from notbugs.errors import InputError
from notbugs.measure._audit import judge
from notbugs.measure.accuracy import Accuracy, AttackUsed
from notbugs.measure.audit_result import Audit, Group, Sizes
from notbugs.measure.feature_visualization import Driver
from notbugs.measure.spectrum import KINDS, KindCounts, SpectrumRow, UsefulnessSummary
from notbugs.measure.unbalanced import Area
from notbugs.records import write_model
from notbugs.report import write_audit_page
from notbugs.report.audit import labels_section, render_audit
from notbugs.study import AuditFile
from notbugs.threat import L2
from tests.fakes import HOSTILE, proportion
from tests.test_report import Page
from tests.test_report_browser import CHROMIUM, browser, faults, opened  # noqa: F401  a fixture

pytestmark = pytest.mark.whole

RADII = (0.125, 0.25, 0.5, 1.0)
SHARES = {
    "model": (0.964, 0.81, 0.623, 0.206, 0.011),
    "all": (0.968, 0.802, 0.617, 0.21, 0.009),
    "robust": (0.742, 0.69, 0.655, 0.571, 0.322),
    "nonrobust": (0.931, 0.7, 0.402, 0.051, 0.0),
}


def accuracies(name: str) -> list[Accuracy]:
    attacks = [None] + [AttackUsed(norm="l2", eps=eps, steps=20, step_size=2.5 * eps / 20, restarts=1) for eps in RADII]
    return [
        Accuracy(attack=attack, share=proportion(share, 1000))
        for attack, share in zip(attacks, SHARES[name], strict=True)
    ]


def feature(number: int, kind: str) -> SpectrumRow:
    rho = {"robust": 0.61, "nonrobust": 0.45, "undecided": -0.5, "useless": 0.01}[kind] + 0.0037 * number
    gamma = abs(rho) - {"robust": 0.31, "nonrobust": 1.2, "undecided": 0.49, "useless": 0.4}[kind]
    wide = {"rho_low": rho - 0.041, "rho_high": rho + 0.043, "gamma_low": gamma - 0.052, "gamma_high": gamma + 0.055}
    return SpectrumRow(feature=number, best_class=number % 4, kind=kind, rho=rho, gamma=gamma, flat=0.125, **wide)


def usefulness(kinds: list[str]) -> UsefulnessSummary:
    counted = KindCounts(**{kind: kinds.count(kind) for kind in KINDS})
    return UsefulnessSummary(
        features="penultimate", norm="l2", eps=0.5, bound="upper", n=1000, n_searched=57, min_rho=0.0, z=4.1, seed=0,
        attack=AttackUsed(norm="l2", eps=0.5, steps=10, step_size=1.0, restarts=1), of_features=counted,
        of_pairs=counted, spectrum=[feature(*pair) for pair in enumerate(kinds)],
    )  # fmt: skip


def driver(number: int) -> Driver:
    return Driver(
        feature=number, top=[3, 1, 4, 15], top_labels=[0, 1, 2, 3], top_values=[3.21, 2.9, 2.8, 2.75], start=9,
        start_label=2, start_value=0.04, near_radius=0.5, near_value=1.7 + number, far_radius=4.0, far_value=6.3,
    )  # fmt: skip


def audit_file(*, hostile: bool = False, features: int = 12) -> AuditFile:
    kinds = [kind for kind in KINDS for _ in range(features // 4)]
    groups = [
        Group(name=name, features=count, strength=1e-4, accuracies=accuracies(name))
        for name, count in (("all", features), ("robust", features // 4), ("nonrobust", features // 4))
    ]
    model = accuracies("model")
    audit = Audit(
        norm="l2", eps=0.5, seed=0, classes=4, sizes=Sizes(fitted=2000, sorted=1000, measured=1000),
        guessing=0.25, model=model, groups=groups, usefulness=usefulness(kinds),
        drivers=[driver(number) for number in (0, 1, kinds.index("nonrobust"))],
        verdict=judge(model, groups, L2(0.5), 0.25),
    )  # fmt: skip
    name, classes = "scans", ["benign", "malignant", "cyst", "normal"]
    if hostile:
        name, classes = HOSTILE[1], list(HOSTILE)
    return AuditFile(
        created="2026-03-04T15:09:26+00:00", model=HOSTILE[0] if hostile else "theirs.pth", sha256="ab" * 32,
        command=f"notbugs audit '{HOSTILE[1]}'" if hostile else "notbugs audit theirs.pth --data scans",
        settings={"data": HOSTILE[2] if hostile else "scans", "threat": "l2:0.5", "options": {}, "mean": None},
        data={
            "name": name, "variant": "", "shape": [1, 8, 8], "train": 2000, "test": 2000, "classes": classes,
            "fingerprint": "b7" * 32,
        },
        test_set="test", versions={"notbugs": "0.1.0"}, device="cpu", threads=1, seconds={"usefulness": 3.2},
        audit=audit,
    )  # fmt: skip


def write(folder, *, channels: int = 1, **kinds) -> AuditFile:
    folder.mkdir(parents=True, exist_ok=True)
    made = audit_file(**kinds)
    (folder / "audit.json").write_text(made.model_dump_json(by_alias=True), encoding="utf-8")
    random = np.random.default_rng(0)
    shapes = {"top": (3, 4), "start": (3,), "near": (3,), "far": (3,)}
    arrays = {name: random.random((*shape, channels, 8, 8), dtype=np.float32) for name, shape in shapes.items()}
    save_file(arrays, folder / "pictures.safetensors")
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return write(folder), write_audit_page(folder)


@pytest.fixture(scope="module")
def page(plain):
    return Page(plain[1].read_text(encoding="utf-8"))


def numbers(value) -> set[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        return set().union(*map(numbers, value.values()))
    if isinstance(value, list):
        return set().union(*map(numbers, value))
    return {float(value)} if isinstance(value, int | float) else set()


def test_every_number_of_the_page_is_one_of_audit_json_and_every_result_is_there(plain, page):
    audit = plain[0].audit
    assert set(page.values) <= numbers(audit.model_dump(mode="json"))
    wanted = {audit.guessing}
    for found in (audit.model, *(group.accuracies for group in audit.groups)):
        wanted |= {item.share.value for item in found}
        for item in found:
            assert f"{100 * item.share.low:.1f} – {100 * item.share.high:.1f}" in page.text
    wanted |= {value for row in audit.spectrum for value in row.model_dump().values() if isinstance(value, float)}
    for kept in (audit.verdict.robust, audit.verdict.nonrobust, audit.verdict.held):
        wanted |= {kept.value, kept.low, kept.high}
    for row in audit.drivers:
        wanted |= {*row.top_values, row.start_value, row.near_value, row.far_value}
    assert wanted <= set(page.values)
    for count in (audit.sizes.fitted, audit.sizes.sorted, audit.sizes.measured, audit.usefulness.n_searched):
        assert f"{count:,}" in page.text


def test_the_verdict_and_the_command_are_on_the_page(plain, page):
    for sentence in plain[0].audit.verdict.sentences:
        assert sentence in page.text
    assert plain[0].command in page.text


def test_held_out_images_are_not_called_test_images_unsaid():
    made = audit_file()
    for found, is_said in ((made, False), (made.model_copy(update={"test_set": "heldout"}), True)):
        assert ("those held out of the training split" in render_audit(found, None)) == is_said


def test_the_page_over_several_labels_names_the_data_whatever_their_names():
    made = audit_file()
    data = made.data | {"name": "scans, left, mild", "classes": ["no left, mild", "left, mild"]}
    section = labels_section({"label-1": made.model_copy(update={"data": data})})
    assert "audited on its own, on scans, for changes" in section.text


def test_it_is_one_file_without_scripts(plain, page):
    assert "script" not in page.tags
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "srcset"):
            assert value.startswith(("data:image/png;base64,", "#")), (tag, name, value)


def test_names_of_users_stay_text(tmp_path):
    write(tmp_path, hostile=True)
    text = write_audit_page(tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.text
    assert "49" not in page.text.split("{{ 7 * 7 }}")[0][-5:]


def test_what_was_read_is_said(tmp_path):
    found = write(tmp_path)
    about = {"notes": ["exact duplicates: 3", "<b>bold</b>", 5], "left_out": ["a/1.png is empty"]}
    write_model(tmp_path / "audit.json", found.model_copy(update={"data": found.data | about}))
    text = write_audit_page(tmp_path).read_text(encoding="utf-8")
    for said in ("<li>exact duplicates: 3</li>", "<li>&lt;b&gt;bold&lt;/b&gt;</li>", "<li>a/1.png is empty</li>"):
        assert said in text


def test_accuracy_and_area_stand_beside_a_balanced_accuracy(tmp_path):
    found = write(tmp_path)
    area = Area(value=0.771, low=0.6, high=0.85, positives=10, negatives=90)
    model = [item.model_copy(update={"area": area}) for item in found.audit.model]
    audit = found.audit.model_copy(update={"model": model, "score": "balanced accuracy"})
    write_model(tmp_path / "audit.json", found.model_copy(update={"audit": audit}))
    text = Page(write_audit_page(tmp_path).read_text(encoding="utf-8")).text
    assert "Accuracy, in which the largest class counts most, in per cent" in text
    assert text.split("Area under the ROC curve in per cent")[1].count("77.1") == len(model)


def test_many_features_are_shortened(tmp_path):
    write(tmp_path, features=600)
    page = Page(write_audit_page(tmp_path).read_text(encoding="utf-8"))
    assert "The 100 most robust and as many of the least robust; audit.json has all 600." in page.text


def test_without_pictures_the_page_is_whole(tmp_path):
    write(tmp_path)
    (tmp_path / "pictures.safetensors").unlink()
    page = Page(write_audit_page(tmp_path).read_text(encoding="utf-8"))
    assert "img" not in page.tags
    assert "What drives them" not in page.text


def test_images_of_other_numbers_of_channels(tmp_path):
    write(tmp_path, channels=2)
    assert Page(write_audit_page(tmp_path).read_text(encoding="utf-8")).tags.count("img") == 3 * 8


def test_damaged_files(tmp_path):
    with pytest.raises(InputError, match="Give the folder of a finished audit"):
        write_audit_page(tmp_path)
    write(tmp_path)
    pictures = (tmp_path / "pictures.safetensors").read_bytes()
    (tmp_path / "pictures.safetensors").write_bytes(pictures[:50])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        write_audit_page(tmp_path)
    save_file({"top": np.zeros((1, 4, 1, 8, 8), np.float32)}, tmp_path / "pictures.safetensors")
    with pytest.raises(InputError, match="does not belong to audit.json"):
        write_audit_page(tmp_path)
    found = json.loads((tmp_path / "audit.json").read_text())
    del found["audit"]["groups"]
    (tmp_path / "audit.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match=r"not an audit file that this version of notbugs reads: audit\.groups"):
        write_audit_page(tmp_path)


@pytest.mark.browser
@pytest.mark.parametrize("hostile", [False, True])
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_as_chromium_shows_it(browser, tmp_path, hostile, scheme, width):  # noqa: F811
    write(tmp_path, hostile=hostile, channels=3)
    page, trouble = opened(browser, write_audit_page(tmp_path), width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert faults(page) == ""
    assert trouble == []
    page.context.close()
