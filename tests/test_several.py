"""Several labels for an image: reading, views of one label, training, and what is measured of each and of all."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from notbugs import (
    L2,
    Adversary,
    Classifier,
    Data,
    Images,
    InputError,
    Training,
    evaluate,
    load,
    pgd,
    relabel,
    robustify,
    train,
    usefulness,
)
from notbugs.__main__ import main
from notbugs.console import TerminalConsole
from notbugs.measure import linear_features
from notbugs.measure.several_labels import evaluate_several
from notbugs.measure.spectrum import KINDS
from notbugs.measure.unbalanced import Area
from notbugs.search import PGDSteps, fast_matching
from notbugs.search.objectives import log_odds, margin
from notbugs.seeds import generator, seeded
from notbugs.study.repeated import check_one_label, for_labels
from notbugs.training.loop import class_weights, summed_loss

pytestmark = pytest.mark.whole

FINDINGS = ("effusion", "mass", "hernia")


def findings(count: int = 120, seed: int = 0) -> Images:
    """1x6x6 images with bright rows for each finding that they have: effusion often, mass, and hernia seldom."""
    draw = generator(seed, "findings")
    labels = (torch.rand(count, 3, generator=draw) < torch.tensor([0.5, 0.3, 0.1])).long()
    labels[:3] = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 1]])
    pixels = 0.3 * torch.rand(count, 1, 6, 6, generator=draw)
    for number in range(3):
        pixels[:, 0, 2 * number : 2 * number + 2] += 0.4 * labels[:, number, None, None]
    return Images(pixels, labels)


@pytest.fixture
def chest() -> Data:
    return Data("chest", findings(), findings(60, 1), FINDINGS)


def rows() -> Classifier:
    """The right answer: logit j is the mean of the rows of finding j, from the middle of those with and without it."""
    head = nn.Linear(36, 3)
    weight = torch.zeros(3, 6, 6)
    for number in range(3):
        weight[number, 2 * number : 2 * number + 2] = 1 / 12
    head.weight.data = weight.flatten(1)
    head.bias.data.fill_(-0.35)
    return Classifier(nn.Sequential(nn.Flatten(), head)).eval()


def saved(tmp_path, **changes):
    """In the layout of ChestMNIST: labels of shape (image, label)."""
    arrays = {}
    for split, images in (("train", findings()), ("test", findings(60, 1))):
        arrays[f"{split}_images"] = (images.pixels[:, 0] * 255).round().byte().numpy()
        arrays[f"{split}_labels"] = images.labels.numpy().astype(np.uint8)
    np.savez(tmp_path / "chest.npz", **arrays | changes)
    return tmp_path / "chest.npz"


def test_chestmnists_layout_is_read(tmp_path):
    data = load(saved(tmp_path, classes=np.array(FINDINGS)))
    assert data.classes == FINDINGS
    assert torch.equal(data.train.labels, findings().labels)
    assert torch.equal(data.test.labels, findings(60, 1).labels)
    assert load(saved(tmp_path)).classes == ("0", "1", "2")
    held = data.hold_out(0.25, 0)
    assert held.test.labels.shape == (30, 3)
    with pytest.raises(InputError, match="be 3 names, one for each column"):
        load(saved(tmp_path, classes=np.array(["a", "b"])))
    with pytest.raises(InputError, match="be 0 or 1 in 3 columns, in both splits"):
        load(saved(tmp_path, test_labels=findings(60, 1).labels.numpy() * 2))


@pytest.mark.parametrize("order", [(1, 0), (1, 2, 0)])
def test_labels_in_another_order_are_the_same_columns(tmp_path, order):
    count, order = len(order), list(order)
    names, labels = np.array(FINDINGS[:count]), findings(60, 1).labels.numpy()[:, :count]
    pixels = (findings(60, 1).pixels[:, 0] * 255).byte().numpy()
    for name, columns in (("one", range(count)), ("other", order)):
        columns = list(columns)
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=labels[:, columns], classes=names[columns])
    data = load(tmp_path / "one.npz", test_data=tmp_path / "other.npz")
    assert data.classes == FINDINGS[:count]
    assert torch.equal(data.test.labels, torch.from_numpy(labels).long())
    other = load(tmp_path / "one.npz").in_order_of(names[order].tolist())
    there = load(tmp_path / "other.npz")
    assert other.classes == there.classes
    assert torch.equal(other.train.labels, there.train.labels)
    assert torch.equal(other.in_order_of(names.tolist()).test.labels, load(tmp_path / "one.npz").test.labels)


def test_a_test_set_must_have_every_label(tmp_path):
    pixels, labels = np.full((60, 6, 6), 255, np.uint8), findings(60, 1).labels.numpy()
    np.savez(tmp_path / "one.npz", images=pixels, labels=labels, classes=np.array(FINDINGS))
    np.savez(tmp_path / "few.npz", images=pixels, labels=labels[:, :2], classes=np.array(FINDINGS[:2]))
    with pytest.raises(InputError, match=r"must have every label of one: effusion, mass, hernia. Got 'effusion, mass'"):
        load(tmp_path / "one.npz", test_data=tmp_path / "few.npz")


def test_one_label_is_a_binary_data_set(chest):
    one = chest.label("mass")
    assert one.classes == ("no mass", "mass")
    assert one.name == "chest, mass"
    assert torch.equal(one.train.labels, chest.train.labels[:, 1])
    assert one.fingerprint != chest.label("hernia").fingerprint
    with pytest.raises(InputError, match="'label' must be one of effusion, mass, hernia.*Did you mean 'mass'"):
        chest.label("masse")
    with pytest.raises(InputError, match="'label' must be given with data of several labels"):
        one.label("mass")


def test_a_view_of_one_label_is_attacked_as_a_binary_classifier(chest):
    """In closed form: a logit moves by eps times the norm of its weights, and by no more."""
    classifier = rows()
    for number, name in enumerate(FINDINGS):
        view, images = classifier.label(number), chest.label(name).test
        z = classifier(images.pixels)[:, number].detach()
        sides = z * (2 * images.labels - 1) / math.sqrt(1 / 12)
        radius = float(sides.quantile(0.5))
        clean, robust = evaluate(view, images, radii=(radius,))
        assert clean.share.value == float((sides > 0).float().mean())
        assert robust.share.value == pytest.approx(0.5, abs=2 / 60)
    with pytest.raises(InputError, match=r"An image must have one label here, and these have 3.*--label NAME"):
        evaluate(classifier, chest.test)
    with pytest.raises(InputError, match="give a logit or a sigmoid for each label.*a softmax"):
        Classifier(nn.Sequential(classifier.network, nn.Softmax(1))).label(0)(chest.test.pixels)
    with pytest.raises(InputError, match="label 3 is asked for"):
        classifier.label(3)(chest.test.pixels)


def test_the_log_odds_of_several_labels():
    """log(p / (1 - p)) of the product of the sigmoids, in float64; of one label they are its logit."""
    logits, labels = torch.randn(50, 4, generator=generator(0)) * 4, torch.randint(2, (50, 4))
    sides = (logits * (2 * labels - 1)).double()
    loss = softplus(-sides).sum(1)
    assert torch.allclose(log_odds(logits, labels).double(), -torch.log(torch.expm1(loss)), rtol=1e-4, atol=1e-5)
    assert torch.equal(margin(logits, labels), sides.amin(1).float())
    assert torch.allclose(log_odds(logits[:, :1], labels[:, :1]), sides[:, 0].float(), atol=1e-5)


@pytest.mark.parametrize("size", [0.0, 20.0, 200.0, -200.0])
def test_confident_labels_keep_their_gradient(size):
    logits = torch.full((1, 3), size).requires_grad_()
    log_odds(logits, torch.ones(1, 3, dtype=torch.int64)).sum().backward()
    assert bool(logits.grad.isfinite().all())
    assert float(logits.grad.sum()) >= 0.5


def test_the_loss_and_its_weights():
    labels = torch.tensor([[1, 0], [0, 0], [0, 0], [0, 1]])
    weights = class_weights(labels)
    assert torch.allclose(weights, torch.tensor([[4 / 6, 2.0], [4 / 6, 2.0]]))
    zero = torch.zeros(4, 2)
    assert float(summed_loss(zero, labels)) == pytest.approx(4 * math.log(2))
    assert float(summed_loss(zero, labels, weights)) == pytest.approx(4 * math.log(2))  # they are 1 on average
    single = torch.tensor([0, 0, 0, 1])
    assert torch.allclose(class_weights(single), torch.tensor([4 / 6, 2.0]))
    assert torch.allclose(class_weights(torch.tensor([0, 2, 2, 2]))[[0, 2]], torch.tensor([2.0, 4 / 6]))  # none of 1
    assert torch.allclose(class_weights(torch.zeros(4, 1, dtype=torch.int64))[0, 0], torch.tensor(1.0))
    assert float(summed_loss(zero, single, class_weights(single))) == pytest.approx(4 * math.log(2))


def test_adversarial_training_leaves_what_is_brittle():
    """Channel 0 has each label, wrong on one image of ten; channel 1 has it always, 0.05 from the other side."""
    draw = generator(4)
    labels = torch.randint(2, (300, 3), generator=draw)
    sides = (2 * labels - 1)[:, None, None, :].float()
    wrong = torch.where(torch.rand(sides.shape, generator=draw) < 0.1, -1, 1)
    pixels = 0.5 + torch.cat([0.3 * sides * wrong, 0.05 * sides], 1)
    right = {}
    for name, adversary in (("standard", None), ("adversarial", Adversary(eps=0.15, steps=3))):
        with seeded(1):
            fresh = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), mean=(0.5, 0.5), std=(0.3, 0.05))
        settings = Training(adversary=adversary, epochs=10, batch=50, lr=0.5)
        classifier = train(fresh, Images(pixels, labels), settings)
        found = pgd(classifier, pixels, labels, L2(0.15)).images
        for under, images in (("clean", pixels), ("robust", found)):
            right[name, under] = float(((classifier(images) > 0) == (labels == 1)).float().mean())
    assert right["standard", "clean"] == 1
    assert right["standard", "robust"] < 0.8 < right["adversarial", "robust"]
    assert 0.85 < right["adversarial", "clean"] < 0.95


def test_balanced_training_finds_what_is_rare():
    """On one image of ten, too weakly to be worth a false alarm: without weights it is never named."""
    draw = generator(3)
    labels = (torch.arange(400) % 10 == 0).long()
    pixels = (0.5 + 0.1 * torch.randn(400, 1, 4, 4, generator=draw) + 0.03 * labels[:, None, None, None]).clamp(0, 1)
    named = {}
    for balanced in (False, True):
        with seeded(1):
            fresh = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), mean=(0.5,), std=(0.1,))
        settings = Training(epochs=6, batch=100, lr=0.1, balanced=balanced)
        found = train(fresh, Images(pixels, labels), settings)(pixels).argmax(1)
        named[balanced] = float((found[labels == 1] == 1).float().mean())
    assert named[False] < 0.5 < named[True]


def test_usefulness_of_every_label_in_one_pass(chest):
    """Equal to that of each label on its own; the mean of a finding's rows is useful for it, and robustly so."""
    found = usefulness(rows(), chest.train, chest.test, L2(0.3), steps=4, images=20)
    assert found.rho.shape == (36, 3)
    means = linear_features(rows().head.weight.detach().view(3, 1, 6, 6))
    own = usefulness(means, chest.train, chest.test, L2(0.1))
    assert own.rho.argmax(1).tolist() == [0, 1, 2]
    assert all(KINDS[own.kind[number, number]] == "robust" for number in range(2))
    for number, name in enumerate(FINDINGS):
        one = chest.label(name)
        alone = usefulness(means, one.train, one.test, L2(0.1))
        torch.testing.assert_close(own.rho[:, number], alone.rho[:, 1])
        torch.testing.assert_close(own.gamma[:, number], alone.gamma[:, 1])


def test_every_label_and_all_of_them_are_measured(chest):
    """Each label in closed form; all are right where the weakest is; the mean is that of the labels."""
    classifier, images = rows(), chest.test
    found = evaluate_several(classifier, images, FINDINGS, radii=(0.3,))
    sides = classifier(images.pixels).detach() * (2 * images.labels - 1) / math.sqrt(1 / 12)
    for place, radius in enumerate((0.0, 0.3)):
        survives = sides > radius
        for number, label in enumerate(found.labels):
            accuracy = label.accuracies[place]
            assert accuracy.share.value == pytest.approx(float(survives[:, number].float().mean()), abs=1 / 60)
            worst = sides[:, number] - radius
            area = Area.of(worst * (2 * images.labels[:, number] - 1), images.labels[:, number])
            assert accuracy.area.value == pytest.approx(area.value, abs=0.01)
        assert found.every[place].share.value == pytest.approx(float(survives.all(1).float().mean()), abs=1 / 60)
        shares = [label.accuracies[place].share.value for label in found.labels]
        assert found.mean[place].share.value == pytest.approx(sum(shares) / 3)
    assert [label.label for label in found.labels] == list(FINDINGS)
    lines = "\n".join(map(str, found))
    assert "hernia, on 1" in lines
    assert "all labels right\n  clean: " in lines
    with pytest.raises(InputError, match="'classifier' must give 3 logits"):
        evaluate_several(Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 4))), images, FINDINGS)


def test_images_are_moved_towards_one_label(chest, tmp_path):
    """D_det of a label turns it round; D_R keeps the label of the image whose features it has."""
    one, view = chest.label("mass"), rows().label(1)
    made = relabel(view, one, tmp_path / "det", targets="next", threat=L2(3.0), schedule=PGDSteps(10))
    assert torch.equal(made.images.labels, 1 - one.train.labels)
    z = view(made.images.batch(slice(None))[0])[:, 1]
    assert float(((z > 0) == (made.images.labels == 1)).float().mean()) > 0.9
    others = (rows()(made.images.batch(slice(None))[0]) - rows()(one.train.pixels)).detach()[:, [0, 2]]
    assert float(others.abs().max()) < 1e-6  # whose rows are others: they do not move
    matched = robustify(view, one, tmp_path / "robust", schedule=fast_matching((1, 6, 6), 20))
    assert torch.equal(matched.images.labels, one.train.labels)
    assert float(matched.loss.median()) < 0.01


def test_from_the_command_line(tmp_path, capsys):
    """One classifier of all labels: trained, measured, audited for one label and for each."""
    data = ("--data", str(saved(tmp_path, classes=np.array(FINDINGS))), "--precision", "fp32", "--test-images", "40")
    quick = ("--attack.steps", "2", "--attack.queries", "0")
    model, network = str(tmp_path / "all.safetensors"), ("--arch.width", "2", "--arch.features", "4")
    assert main(["train", *data, *network, "--epochs", "1", "--batch", "30", "--out", model, "--quiet"]) == 0
    assert "all labels right\n  clean: " in capsys.readouterr().out
    assert main(["evaluate", model, *data, "--radii", "0.2", *quick, "--quiet"]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^(\w+), on .* of the images$", printed, re.MULTILINE) == list(FINDINGS)
    assert printed.count("  l2 0.2: ") == 5
    assert main(["evaluate", model, *data, "--label", "mass", "--radii", "0.2", *quick, "--quiet"]) == 0
    clean = capsys.readouterr().out.splitlines()[0]
    assert f"  {clean.split(', balanced')[0]}" in printed
    small = ("--images", "2", "--measured", "20", "--quiet", "--out", str(tmp_path / "audit"))
    assert main(["audit", model, *data, *quick, *small]) == 0
    pages = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".html")]
    folders = [f"label-{name}" for name in FINDINGS]
    assert pages == [*(str(tmp_path / "audit" / one / "audit.html") for one in folders), f"{tmp_path}/audit/audit.html"]
    over = (tmp_path / "audit" / "audit.html").read_text()
    assert set(re.findall('<a href="(.*?)/audit.html">', over)) == set(folders)
    assert main(["build", "det", model, *data, "--out", str(tmp_path / "set"), "--quiet"]) == 2
    assert "Choose one of them" in capsys.readouterr().err
    assert main(["evaluate", model, *data, "--label", "cold"]) == 2
    assert "'label' must be one of effusion, mass, hernia" in capsys.readouterr().err


def test_data_are_read_once_for_all_labels(chest, tmp_path):
    """Fourteen findings: the work on each gets its own data, and no folder is read again."""
    many = Data("chest", *(Images(part.pixels, part.labels.repeat(1, 5)[:, :14]) for part in (chest.train, chest.test)),
                tuple(f"finding {number}" for number in range(14)))  # fmt: skip
    given = []

    def work(label, folder, data):
        given.append((label, folder.name, data))
        check_one_label(data or many)
        return label

    done = list(for_labels(work, tmp_path, TerminalConsole(quiet=True)))
    assert [label for _, label in done] == list(many.classes)
    assert given[0] == (None, tmp_path.name, None)
    assert [(label, name, data.classes[1]) for label, name, data in given[1:]] == [
        (name, f"label-{name.replace(' ', '-')}", name) for name in many.classes
    ]
