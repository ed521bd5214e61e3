"""Controls and noise starts: known answers on images whose features are planted, then the store."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.construct import (
    CONTROLS,
    ConstructedSet,
    describe,
    export,
    patterns,
    read_manifest,
    starts_of,
    storage,
    verify,
)
from notbugs.construct.builder import noise
from notbugs.data import Data, Images, Planted
from notbugs.errors import InputError
from notbugs.files import sha256
from notbugs.seeds import generator, seeded

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "controls.md"
CLASSES = 4
SETTINGS = nb.Training(epochs=12, batch=100, lr=0.02, weight_decay=0.0)
QUICK = nb.search.PGDSteps(4, 0.3)
CHANCE = 1 / CLASSES


@pytest.fixture(scope="module")
def made() -> Planted:
    return nb.planted(train=2000, test=1000)


def seer(made: Planted, *kinds: str) -> nb.Classifier:
    """The best linear classifier that sees the templates of some kinds alone; its features are their projections."""
    chosen = torch.tensor([kind in kinds for kind in made.kinds])
    templates, codes = made.templates[chosen].flatten(1), made.codes[chosen]
    weights = made.strength[chosen] / made.noise[chosen].square()
    see, decide = nn.Linear(templates.shape[1], len(templates)), nn.Linear(len(templates), CLASSES)
    with torch.no_grad():
        see.weight.copy_(templates)
        see.bias.copy_(-0.5 * templates.sum(1))
        decide.weight.copy_(nn.functional.one_hot(codes, CLASSES).T * weights)
        decide.bias.zero_()
    return nb.Classifier(nn.Sequential(nn.Flatten(), see, decide), precision="fp32").eval()


def learned(images: Images) -> nb.Classifier:
    """A linear classifier trained on some images."""
    with seeded(5):
        network = nn.Sequential(nn.Flatten(), nn.Linear(256, CLASSES))
    classifier = nb.Classifier(network, mean=(0.5,), std=(0.1,), precision="fp32")
    return nb.train(classifier, images, SETTINGS)


def accuracies(images: Images, made: Planted) -> tuple[float, float]:
    """On the test images: clean, and with the next label."""
    classifier, test = learned(images), made.data.test
    clean = nb.evaluate(classifier, test)[0].share.value
    return clean, nb.measure.relabelled_accuracy(classifier, test, CLASSES).value


@pytest.fixture(scope="module")
def standard(made) -> nb.Classifier:
    return seer(made, "robust", "nonrobust")


@pytest.fixture(scope="module")
def sets(made, standard, tmp_path_factory) -> dict[str, ConstructedSet]:
    """D_rand, D_rand_other and D_det of a source that sees everything."""
    folder = tmp_path_factory.mktemp("sets")
    return {
        targets: nb.relabel(standard, made.data, folder / targets, targets=targets, threat=nb.L2(0.5))
        for targets in ("any", "other", "next")
    }


@pytest.fixture(scope="module")
def robust(made) -> nb.Classifier:
    return seer(made, "robust")


# What each set carries


def test_non_robust_features_alone_generalise_and_random_ones_do_not(made, standard, sets, tmp_path):
    """No label of D_rand_other is true: what a classifier learns of the classes it has from the perturbations."""
    clean, _ = accuracies(sets["other"].images, made)
    moved = nb.control(standard, made.data, tmp_path / "random", of=sets["other"], kind="random")
    untouched = nb.control(standard, made.data, tmp_path / "labels", of=sets["other"], kind="labels")
    assert clean > 0.95
    assert accuracies(moved.images, made)[0] < CHANCE / 5
    assert accuracies(untouched.images, made)[0] < CHANCE / 5


def test_a_leakage_control_of_d_rand_generalises_without_any_adversarial_feature(made, standard, sets, tmp_path):
    """Why D_rand with targets `any` is weak evidence: its control does as well."""
    built = nb.control(standard, made.data, tmp_path / "leakage", of=sets["any"], kind="leakage")
    labels_only = nb.control(standard, made.data, tmp_path / "labels", of=sets["any"], kind="labels")
    assert accuracies(sets["any"].images, made)[0] > 0.95
    assert accuracies(built.images, made)[0] > 0.9
    assert accuracies(labels_only.images, made)[0] < 0.4  # the patterns make the difference


def test_a_leakage_control_teaches_as_much_as_the_weak_classifiers_errors(made, standard, robust, sets, tmp_path):
    """Of wrong labels only those are consistent that a weak classifier gives; a perfect one leaves nothing to learn."""
    for weak, more in ((robust, True), (standard, False)):
        out = tmp_path / f"{more}"
        built = nb.control(standard, made.data, out, of=sets["other"], kind="leakage", weak=weak)
        untouched = (built.images.pixels[:] == made.data.train.pixels).flatten(1).all(1)
        said = nb.measure.predictions(weak, made.data.train)
        assert torch.equal(untouched, said == built.images.labels)
        assert bool(untouched.any()) == more
        clean, _ = accuracies(built.images, made)
        assert (clean > 0.18) == more
        assert clean < CHANCE


def test_a_robust_source_teaches_the_old_class(made, robust, sets, tmp_path):
    """It moves robust features only, and not far enough: non-robust ones still say y, and the label is y + 1."""
    built = nb.relabel(robust, made.data, tmp_path, targets="next", threat=nb.L2(0.5))
    clean, relabelled = accuracies(built.images, made)
    assert (clean, relabelled) == (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))
    of_standard, relabelled_of_standard = accuracies(sets["next"].images, made)
    assert of_standard > clean + 0.1
    assert relabelled_of_standard < relabelled - 0.1


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_perturbed_noise_teaches_the_classes(made, standard, tmp_path, kind):
    """Kumano et al.: nothing in it but perturbations."""
    built = nb.relabel(standard, made.data, tmp_path, threat=nb.L2(0.5), start=kind)
    assert accuracies(built.images, made)[0] > 0.95


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_d_r_from_noise_carries_robust_features_alone(made, robust, tmp_path, kind):
    """The features are matched to the last bit, so what can be learned is what the robust templates say."""
    built = nb.robustify(robust, made.data, tmp_path, start=kind, schedule=nb.search.fast_matching((1, 16, 16), 25))
    assert float(built.loss.max()) < 1e-4
    clean, _ = accuracies(built.images, made)
    assert clean == pytest.approx(made.accuracy("robust"), abs=0.03)
    fine = torch.tensor([one == "nonrobust" for one in made.kinds])
    features, labels = made.features(built.images.pixels[:])[:, fine], built.images.labels
    y = torch.where(labels[:, None] == made.codes[fine], 1.0, -1.0)
    correlation = torch.corrcoef(torch.cat([features, y], 1).T)[:CLASSES, CLASSES:].diagonal()
    assert float(correlation.abs().max()) < 5 / len(labels) ** 0.5


def test_mislabelled_images_teach_what_the_first_classifier_knew(made, robust, standard, tmp_path):
    built = nb.construct.mislabel(robust, made.data, tmp_path / "set")
    said, images = nb.measure.predictions(robust, made.data.train), made.data.train
    wrong = (said != images.labels).nonzero().flatten()
    assert torch.equal(built.start, wrong)
    assert torch.equal(built.images.labels, said[wrong])
    assert torch.equal(built.images.pixels[:], images.pixels[wrong])
    assert built.manifest["storage"]["success_stored"] == 1
    assert accuracies(built.images, made)[0] > 0.7  # and every label was wrong
    assert verify(tmp_path / "set", data=made.data, source=robust) == []
    assert describe(tmp_path / "set")["images"] == describe(tmp_path / "set")["images_wanted"] == len(wrong)
    with pytest.raises(InputError, match="'classifier' must get at least one training image wrong"):
        nb.construct.mislabel(standard, made.data, tmp_path / "none")


# What each does to the pixels


def colours(count: int = 60) -> Data:
    """Random images, a third of whose values are at the walls of the box."""
    draw = generator(0, "controls")
    images = Images(torch.rand(count, 3, 6, 6, generator=draw).mul(1.5).sub(0.25).clamp(0, 1), torch.arange(count) % 4)
    return Data("random", images, images, tuple("abcd"))


def coloured() -> nb.Classifier:
    with seeded(3):
        return nb.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(108, 5), nn.ReLU(), nn.Linear(5, 4))).eval()


@pytest.mark.parametrize("ball", [nb.L2(0.7), nb.Linf(0.1)], ids=["l2", "linf"])
def test_a_random_control_moves_every_image_as_far_as_its_adversarial_one(tmp_path, ball):
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", threat=ball, schedule=QUICK if ball.norm == "l2" else None)
    built = nb.control(source, data, tmp_path / "control", of=of, kind="random", seed=2)
    moved, wanted = (images.pixels[:] - data.train.pixels for images in (built.images, of.images))
    torch.testing.assert_close(ball.size(moved), ball.size(wanted), rtol=1e-5, atol=1e-6)
    inside = (data.train.pixels - 0.5).abs() < 0.35  # from the walls both can only move inwards
    agreement = float((moved.sign() * wanted.sign())[inside].mean())
    assert abs(agreement) < 5 / int(inside.sum()) ** 0.5
    assert torch.equal(built.images.labels, of.images.labels)
    assert verify(tmp_path / "control", data=data, source=source) == []


@pytest.mark.parametrize("ball", [nb.L2(0.5), nb.Linf(0.05)], ids=["l2", "linf"])
def test_a_leakage_control_adds_the_pattern_of_the_label(tmp_path, ball):
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", threat=ball, schedule=nb.search.PGDSteps(4, 0.03))
    built = nb.control(source, data, tmp_path / "control", of=of, kind="leakage", seed=7)
    added, labels = patterns(data, ball, 7), built.images.labels
    torch.testing.assert_close(ball.size(added), torch.full((4,), ball.eps))
    angles = added.flatten(1) @ added.flatten(1).T
    torch.testing.assert_close(angles, angles.diagonal().diag(), rtol=0, atol=1e-5)
    assert torch.equal(added[..., :-2, :-2], added[..., 2:, 2:])  # a tile of two by two
    expected = (data.train.pixels + added[labels]).clamp(0, 1)
    kept = (labels == data.train.labels)[:, None, None, None]
    torch.testing.assert_close(built.images.pixels[:], torch.where(kept, data.train.pixels, expected))
    assert verify(tmp_path / "control", data=data, source=source) == []


def test_a_leakage_control_of_a_free_radius_adds_as_much_as_the_search_did(tmp_path):
    """A set of smallest perturbations has no radius: every pattern is as long as the image's own perturbation."""
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", threat=nb.L2(float("inf")), schedule=nb.search.FMN(20))
    built = nb.control(source, data, tmp_path / "control", of=of, kind="leakage", seed=7)
    length = nb.L2(1).size(of.images.pixels[:] - data.train.pixels)
    added = length[:, None, None, None] * patterns(data, nb.L2(1), 7)[built.images.labels]
    kept = (built.images.labels == data.train.labels)[:, None, None, None]
    expected = torch.where(kept, data.train.pixels, (data.train.pixels + added).clamp(0, 1))
    torch.testing.assert_close(built.images.pixels[:], expected)
    assert len(set(length.tolist())) > 10
    assert verify(tmp_path / "control", data=data, source=source) == []


def test_an_untouched_control_is_untouched_in_its_type(tmp_path):
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", schedule=QUICK, dtype="uint8")
    built = nb.control(source, data, tmp_path / "control", of=of, kind="labels")
    assert built.images.pixels.dtype == torch.uint8
    assert float((built.images.batch(slice(None))[0] - data.train.pixels).abs().max()) <= 0.5 / 255 + 1e-6
    assert built.manifest["request"]["of"] == describe(tmp_path / "of")["build"]
    assert verify(tmp_path / "control", data=data, source=source) == []


def test_rounding_of_a_control_comes_on_top_of_its_sets(tmp_path):
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", threat=nb.Linf(0.1), dtype="uint8")
    for kind in ("random", "labels"):
        nb.control(source, data, tmp_path / kind, of=of, kind=kind)
        assert verify(tmp_path / kind, data=data, source=source) == []


def test_a_random_control_has_the_frequencies_of_its_set_and_no_control_claims_them(tmp_path):
    data, source, band = colours(), coloured(), nb.data.Band("low", 2)
    of = nb.relabel(source, data, tmp_path / "of", threat=nb.L2(0.2, band=band), schedule=QUICK)
    outside = {}
    for kind in ("random", "leakage"):
        built = nb.control(source, data, tmp_path / kind, of=of, kind=kind)
        assert "band" not in built.manifest["request"]["threat"]
        assert verify(tmp_path / kind, data=data, source=source) == []
        outside[kind] = float(band.outside(built.images.pixels[:] - data.train.pixels).mean())
    assert outside["random"] < 0.75 * outside["leakage"]  # many pixels of these images can move inwards alone


def test_noise_depends_on_its_number_and_the_seed():
    some = noise("gaussian", torch.tensor([4, 9]), (3, 32, 32), 1)
    assert torch.equal(some[1:], noise("gaussian", torch.tensor([9]), (3, 32, 32), 1))
    assert not torch.equal(some, noise("gaussian", torch.tensor([4, 9]), (3, 32, 32), 2))
    assert float(some.mean()) == pytest.approx(0.5, abs=0.003)
    assert float(some.std()) == pytest.approx(0.05, abs=0.003)
    flat = noise("uniform", torch.arange(2), (3, 32, 32), 1)
    assert float(flat.std()) == pytest.approx(12**-0.5, abs=0.01)
    assert float(flat.min()) < 0.01 < 0.99 < float(flat.max())


# The store


def make(kind: str, folder: Path, of: ConstructedSet | None = None, **how) -> ConstructedSet:
    data, source = colours(), coloured()
    if kind == "mislabelled":
        return nb.construct.mislabel(source, data, folder, **how)
    if kind in ("gaussian", "uniform"):
        return nb.relabel(source, data, folder, start=kind, schedule=QUICK, **how)
    if kind == "matched":
        return nb.robustify(source, data, folder, start="uniform", schedule=QUICK, **how)
    return nb.control(source, data, folder, of=of, kind=kind, **how)


@pytest.mark.parametrize("kind", [*CONTROLS, "mislabelled", "gaussian", "uniform", "matched"])
def test_a_killed_build_ends_in_the_same_bits(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(storage, "SHARD_IMAGES", 16)
    monkeypatch.setattr(storage, "BATCH_IMAGES", 16)
    of = nb.relabel(coloured(), colours(), tmp_path / "of", schedule=QUICK)

    class Killed(Exception):
        pass

    def kill(done, total, note=""):
        if done > 20:
            raise Killed

    def bits(folder):
        return {file.name: sha256(file) for file in sorted(folder.glob("shard-*.safetensors"))}

    make(kind, tmp_path / "whole", of)
    with pytest.raises(Killed):
        make(kind, tmp_path / "set", of, progress=kill)
    told = []
    make(kind, tmp_path / "set", of, progress=lambda done, total, note="": told.append((done, total)))
    assert bits(tmp_path / "set") == bits(tmp_path / "whole")
    assert len(bits(tmp_path / "whole")) >= 3
    assert told[0][0] > 16  # the first shard was kept
    assert verify(tmp_path / "set", data=colours(), source=coloured()) == []


@pytest.mark.parametrize("kind", ["gaussian", "matched"])
def test_sets_from_noise(tmp_path, kind):
    built, data = make(kind, tmp_path / "set", seed=3), colours()
    started = starts_of(built.manifest["request"], data.train)(built.start)
    assert torch.equal(started, noise("uniform" if kind == "matched" else kind, torch.arange(60), (3, 6, 6), 3))
    measured = nb.measure.measure_set(built, data.train, coloured(), coloured(), nb.data.Augmentation())
    assert measured["kept_label"]["value"] == 0
    assert measured["l2"]["max"] == pytest.approx(built.manifest["storage"]["l2_norm"]["max"], rel=1e-5)
    if kind == "gaussian":
        assert measured["l2"]["max"] <= 0.5 + 1e-5
    with pytest.raises(InputError, match="another request"):
        nb.relabel(coloured(), data, tmp_path / "set", schedule=QUICK, seed=3)


def test_sets_from_images_are_asked_for_as_before(tmp_path):
    """So that what an earlier version began goes on, and stays of one build."""
    nb.relabel(coloured(), colours(), tmp_path, schedule=QUICK)
    request = read_manifest(tmp_path)["request"]
    assert not {"start", "images", "of", "weak"} & set(request)


@pytest.mark.parametrize("kind", [*CONTROLS, "mislabelled", "gaussian", "matched"])
def test_they_are_exported_and_described(tmp_path, kind):
    of = nb.relabel(coloured(), colours(), tmp_path / "of", schedule=QUICK)
    built = make(kind, tmp_path / "set", of)
    for format in ("npz", "parquet"):
        out = export(tmp_path / "set", tmp_path / format, format)
        card = (out / "README.md").read_text()
        said = {"mislabelled": "gets wrong", "gaussian": "Gaussian noise", "matched": "uniform noise"}
        assert said.get(kind, "A control of a relabelled set") in card
        assert f"{len(built)} images" in card
    found = describe(tmp_path / "set")
    expected = {"gaussian": "relabelled", "matched": "matched"}.get(kind, "control")
    assert found["kind"] == expected
    assert json.loads(json.dumps(found)) == found


# What is refused


def test_what_is_no_control(tmp_path, unchecked):
    data, source = colours(), coloured()
    of = nb.relabel(source, data, tmp_path / "of", schedule=QUICK)
    other = nb.relabel(source, data, tmp_path / "other", targets="other", schedule=QUICK)
    matched = nb.robustify(source, data, tmp_path / "matched", schedule=QUICK)
    noisy = make("uniform", tmp_path / "noisy")
    with seeded(4):
        stranger = nb.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(108, 4))).eval()
    out = tmp_path / "out"
    for how, said in (
        ({"of": of, "kind": "leaks"}, "Did you mean"),
        ({"of": matched, "kind": "labels"}, "'of' must be a relabelled set.*a matched set"),
        ({"of": noisy, "kind": "labels"}, "'of' must start from images.*uniform noise"),
        ({"of": other, "kind": "leakage"}, "'weak' must be given"),
    ):
        with pytest.raises(InputError, match=said):
            nb.control(source, data, out, **how)
    with pytest.raises(InputError, match="'classifier' must be what the relabelled set was built with"):
        nb.control(stranger, data, out, of=of, kind="labels")
    with pytest.raises(InputError, match="'data' must be what"):
        nb.control(source, colours(64), out, of=of, kind="labels")
    for build in (nb.relabel, nb.robustify):
        with pytest.raises(InputError, match="'start' must be one of images, gaussian, uniform"):
            build(source, data, out, start="noise")
    assert not out.exists()


def test_every_block_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, names = PAGE.read_text(encoding="utf-8"), {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile("\n" * (text.count("\n", 0, block.start()) + 1) + block[1], str(PAGE), "exec"), names)  # noqa: S102
