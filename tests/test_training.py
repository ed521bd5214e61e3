from __future__ import annotations

import copy
import math
import shutil

import pytest
import torch
from torch import nn

from notbugs.classifier import Classifier
from notbugs.data import Augmentation, Images, load
from notbugs.data.images import Mapped
from notbugs.errors import InputError
from notbugs.files import write_tensors
from notbugs.measure import evaluate
from notbugs.search import PGDSteps, pgd
from notbugs.seeds import generator, seeded
from notbugs.training import Adversary, Training, learning_rate, new_classifier, train, watching
from notbugs.training import loop as training_loop
from notbugs.training.together import pieces
from tests.conftest import bars

SHORT = Training(epochs=3, batch=16, lr=0.05, shift=1)


def fresh(data, seed=0):
    return new_classifier(data, seed=seed, width=4, features=8, device=torch.device("cpu"), precision="fp32")


def same(one, other) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0] | states[1])


@pytest.mark.parametrize("adversary", [None, Adversary(eps=0.3, steps=2)])
def test_training_learns_and_repeats_to_the_bit(bars_data, adversary):
    settings = SHORT.model_copy(update={"adversary": adversary})
    one, other = (train(fresh(bars_data), bars_data.train, settings) for _ in range(2))
    assert same(one, other)
    assert not same(one, train(fresh(bars_data), bars_data.train, settings, seed=1))
    assert evaluate(one, bars_data.test)[0].share.value > 0.95
    assert not one.training


def test_what_has_no_momentum_is_kept_and_goes_on(bars_data, tmp_path, monkeypatch):
    """SGD keeps no velocity without momentum, nor of a parameter that is frozen or never used."""
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file, still = tmp_path / "checkpoint.safetensors", SHORT.model_copy(update={"momentum": 0.0})
    partly = fresh(bars_data)
    next(partly.parameters()).requires_grad_(False)
    for classifier, settings in ((fresh(bars_data), still), (partly, SHORT)):
        whole = train(copy.deepcopy(classifier), bars_data.train, settings)
        train(classifier, bars_data.train, settings, checkpoint=file, keep=True)
        assert same(whole, train(fresh(bars_data, seed=9), bars_data.train, settings, checkpoint=file))
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("end", [[], [nn.Softmax(1)]])
def test_dropout_draws_by_the_seed_and_not_by_what_ran_before(bars_data, tmp_path, monkeypatch, end):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)

    def dropping() -> Classifier:
        width = math.prod(bars_data.train.shape)
        with seeded(0, "network"):
            head = nn.Linear(width, len(bars_data.classes))
            network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(width), nn.Dropout(0.5), head, *end)
        return Classifier(network, precision="fp32")

    def stop(done, total, note=""):
        if done > 2 * total / 3 + 1:
            raise KeyboardInterrupt

    whole = train(dropping(), bars_data.train, SHORT)
    torch.rand(7)  # something else draws
    again, file = train(dropping(), bars_data.train, SHORT), tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(dropping(), bars_data.train, SHORT, checkpoint=file, progress=stop)
    resumed = train(dropping(), bars_data.train, SHORT, checkpoint=file)
    seen = dropping().eval()
    seen(bars_data.train.pixels)
    assert same(whole, train(seen, bars_data.train, SHORT))
    assert same(whole, again)
    assert same(whole, resumed)


def test_an_interrupted_run_goes_on_to_the_same_bits(bars_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file = tmp_path / "checkpoint.safetensors"
    whole = train(fresh(bars_data), bars_data.train, SHORT)

    class Killed(Exception):
        pass

    def kill_in_the_third_epoch(done, total, note=""):
        if done > 2 * total / 3 + 1:
            raise Killed

    with pytest.raises(Killed):
        train(fresh(bars_data), bars_data.train, SHORT, checkpoint=file, progress=kill_in_the_third_epoch)
    seen = []
    resumed = train(
        fresh(bars_data, seed=9),  # its weights must come from the checkpoint
        bars_data.train,
        SHORT,
        checkpoint=file,
        progress=lambda done, total, note="": seen.append(done / total),
    )
    assert min(seen) > 2 / 3
    assert same(whole, resumed)
    assert not file.exists()


def test_from_a_damaged_checkpoint_training_begins_anew_and_says_so(bars_data, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file, whole = tmp_path / "checkpoint.safetensors", train(fresh(bars_data), bars_data.train, SHORT)
    train(fresh(bars_data), bars_data.train, SHORT, checkpoint=file, keep=True)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert same(whole, train(fresh(bars_data), bars_data.train, SHORT, checkpoint=file))
    assert "checkpoint.safetensors is damaged" in caplog.text
    assert "The training starts from the beginning." in caplog.text


def test_a_checkpoint_of_another_classifier_is_refused(bars_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file = tmp_path / "checkpoint.safetensors"

    def stop(done, total, note=""):
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(bars_data), bars_data.train, SHORT, checkpoint=file, progress=stop)
    other = new_classifier(bars_data, width=3, features=8)
    with pytest.raises(InputError, match="belongs to another classifier"):
        train(other, bars_data.train, SHORT, checkpoint=file)


def test_a_checkpoint_of_another_run_is_refused(bars_data, tmp_path, monkeypatch):
    """As long as the classifiers are alike, it would go on with weights that were made by something else."""
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    file, images = tmp_path / "checkpoint.safetensors", bars_data.train
    train(fresh(bars_data), images, SHORT, checkpoint=file, keep=True)
    mirrored = Images(images.pixels.flip(3), images.labels)
    for some, settings, seed in (
        (images, SHORT.model_copy(update={"epochs": 2}), 0),
        (images, SHORT.model_copy(update={"adversary": Adversary()}), 0),
        (mirrored, SHORT, 0),
        (images.subset(slice(0, 190)), SHORT, 0),
        (images, SHORT, 1),
    ):
        with pytest.raises(InputError, match="belongs to another run.*Delete it"):
            train(fresh(bars_data), some, settings, seed=seed, checkpoint=file)


def test_adversarial_training_is_more_robust_than_standard(bars_data):
    settings = Training(epochs=8, batch=32, lr=0.05)
    robust = settings.model_copy(update={"adversary": Adversary(eps=1.0, steps=3)})
    accuracy = [
        evaluate(train(fresh(bars_data), bars_data.train, each), bars_data.test, radii=(1.0,))[1].share
        for each in (settings, robust)
    ]
    assert accuracy[1].low > accuracy[0].high


def test_the_global_generator_is_left_alone(bars_data):
    state = torch.get_rng_state()
    train(fresh(bars_data), bars_data.train, SHORT)
    assert torch.equal(torch.get_rng_state(), state)


def test_divergence_is_told_with_the_remedy(bars_data):
    with pytest.raises(InputError, match=r"diverged in epoch \d.*Lower the 'lr'"):
        train(fresh(bars_data), bars_data.train, Training(epochs=3, batch=32, lr=1e9))


@pytest.mark.parametrize("looks", [{}, {"patience": 1}, {"adversary": Adversary(eps=0.3, steps=1)}])
def test_divergence_in_the_last_step_of_an_epoch_is_told_too(bars_data, looks):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2))
    settings = Training(epochs=1, batch=len(bars_data.train), lr=1e30, **looks)
    with pytest.raises(training_loop.Diverged, match=r"diverged in epoch 1: its loss is (nan|inf)\. Lower the 'lr'"):
        train(Classifier(network, mean=(0.5,)), bars_data.train, settings)


def test_a_last_batch_of_one_joins_its_neighbour(bars_data):
    classifier, sizes = fresh(bars_data), []
    classifier.network.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None
    )
    train(classifier, bars(65), Training(epochs=1, batch=32))
    assert sizes == [32, 33]


@pytest.mark.parametrize("adversary", [None, Adversary(eps=0.3, steps=2)])
def test_microbatches_change_nothing_but_rounding_without_batch_norm(bars_data, adversary):
    def trained(microbatch):
        with seeded(0):
            network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        settings = SHORT.model_copy(update={"epochs": 2, "microbatch": microbatch, "adversary": adversary})
        return train(Classifier(network, mean=(0.5,)), bars_data.train, settings)

    whole, pieces = trained(None), trained(3)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    assert same(whole, trained(16))


def test_with_batch_norm_every_microbatch_has_its_own_statistics(bars_data):
    classifier, sizes = fresh(bars_data), []
    classifier.network.register_forward_pre_hook(
        lambda module, inputs: sizes.append(len(inputs[0])) if module.training else None
    )
    train(classifier, bars(32), Training(epochs=1, batch=16, microbatch=6))
    assert sizes == [5, 5, 6, 5, 5, 6]


def test_pixels_on_the_device_give_the_same_training(bars_data):
    """`meta` stands for an accelerator here: what is moved is counted, and 8 bits stay 8 bits."""
    bytes_ = Images(bars_data.train.pixels.mul(255).round().byte(), bars_data.train.labels)
    assert bytes_.resident(torch.device("cpu")) is bytes_
    there = bytes_.resident(torch.device("meta"))
    assert there.pixels.dtype == torch.uint8
    assert there.pixels.device == there.labels.device == torch.device("meta")


@pytest.mark.skipif(not torch.accelerator.is_available(), reason="needs an accelerator")
def test_batches_on_the_accelerator_are_those_of_the_cpu(bars_data):
    device = torch.accelerator.current_accelerator()
    images = Images(bars_data.train.pixels.mul(255).round().byte(), bars_data.train.labels)
    index, augmentation = torch.arange(50).flip(0), Augmentation(1, flip=True)
    changes = augmentation.draw(50, generator(0, "test"))
    here, labels = images.batch(index)
    there, labels_there = images.resident(device).batch(index.to(device))
    assert torch.equal(labels, labels_there.cpu())
    assert torch.equal(augmentation.apply(here, changes), augmentation.apply(there, changes).cpu())


def test_a_set_on_disk_is_moved_whole(tmp_path):
    pixels, labels = bars(20).pixels.mul(255).byte(), bars(20).labels
    write_tensors(tmp_path / "part.safetensors", {"images": pixels})
    mapped = Images(Mapped([tmp_path / "part.safetensors"], "images"), labels)
    assert torch.equal(mapped.pixels[:], pixels)
    assert mapped.resident(torch.device("meta")).pixels.shape == pixels.shape


def test_training_compiled_is_training(bars_data, monkeypatch):
    """By a backend that only traces: what a compiler does to the numbers is its own matter."""
    compiler, traced = torch.compile, []

    def trace(graph, _):
        traced.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda function: compiler(function, backend=trace))
    plain = train(fresh(bars_data), bars_data.train, SHORT)
    classifier = fresh(bars_data)
    classifier.try_compiled = True
    assert same(plain, train(classifier, bars_data.train, SHORT))
    assert sum(node.op != "placeholder" for graph in traced for node in graph.graph.nodes) > 5
    assert "forward" not in vars(classifier.network)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of torch's own compiler
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_training_really_compiled(bars_data):
    plain = train(fresh(bars_data), bars_data.train, SHORT)
    classifier = fresh(bars_data)
    classifier.try_compiled = True
    torch._dynamo.utils.counters.clear()
    compiled = train(classifier, bars_data.train, SHORT)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, rtol=1e-2, atol=1e-3)


def test_learning_rate_drops():
    settings = Training(lr=0.4, drops=(0.5, 0.75))
    rates = [learning_rate(settings, step, 8) for step in range(8)]
    assert rates == pytest.approx([0.4] * 4 + [0.04] * 2 + [0.004] * 2)
    for percent in range(1, 100):  # 0.07 * 100 is above 7 in floating point
        rates = [learning_rate(Training(lr=1.0, drops=(percent / 100,)), step, 100) for step in range(100)]
        assert rates.index(0.1) == percent


def test_learning_rate_rises_and_falls_to_zero():
    settings = Training(lr=0.4, warmup=0.25)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(0.4)
    assert rates.index(max(rates)) == 24
    assert rates[0] == pytest.approx(0.4 / 25)
    assert rates[-1] == pytest.approx(0.4 / 75)
    assert all(learning_rate(Training(epochs=1), step, 1) > 0 for step in range(1))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"lr": 0}, {"lr": float("nan")}, {"batch": 1}, {"epoch": 3}, {"adversary": {"eps": -1}}]
)
def test_settings_check_themselves(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Training.model_validate(wrong)


# Catastrophic overfitting, provoked: one step at a radius where one step is not enough.
WEAK = Adversary(norm="linf", eps=0.3, steps=1, step_size=0.3)
TOO_FEW = Training(epochs=8, batch=64, lr=0.1, adversary=WEAK)


def robust_share(classifier, images, schedule):
    inputs, labels = images.batch(slice(0, 400))
    return float((pgd(classifier, inputs, labels, WEAK.threat, schedule).score >= 0).float().mean())


def digits_classifier():
    return new_classifier(load("digits"), width=16, features=16, device=torch.device("cpu"), precision="fp32")


def test_the_guard_ends_catastrophic_overfitting():
    images = load("digits").train.subset(slice(1000))
    bare = TOO_FEW.model_copy(update={"adversary": WEAK.model_copy(update={"guard": False})})
    overfitted = train(digits_classifier(), images, bare)
    assert robust_share(overfitted, images, PGDSteps(10)) < 0.5 * robust_share(overfitted, images, WEAK.schedule)
    notes = []
    kept = train(digits_classifier(), images, TOO_FEW, progress=lambda done, total, note="": notes.append(note))
    told = [note.split(", ")[1] for note in notes if note]
    assert told[-1] in ("2 inner steps", "4 inner steps", "8 inner steps")
    assert robust_share(kept, images, PGDSteps(10)) > 1.5 * robust_share(overfitted, images, PGDSteps(10))


def test_the_guard_leaves_sound_training_alone(bars_data):
    sound = SHORT.model_copy(update={"adversary": Adversary(eps=0.3, steps=2)})
    bare = SHORT.model_copy(update={"adversary": Adversary(eps=0.3, steps=2, guard=False)})
    assert same(*(train(fresh(bars_data), bars_data.train, settings) for settings in (sound, bare)))


def test_workers_double_the_steps_together(bars_data, monkeypatch):
    """Where the attack finds more on another worker, by rounding on its device, this one doubles them, too."""
    monkeypatch.setattr(watching.workers, "largest", lambda value: 1)
    adversary, everything = Adversary(eps=0.3, steps=2), torch.arange(len(bars_data.train))
    assert watching.guarded(fresh(bars_data), bars_data.train, everything, adversary, 0, 0).steps == 4


def test_the_guard_takes_no_more_gradients_than_it_counts_with(bars_data, monkeypatch):
    taken, search = [], watching.Attacked.search

    def counted(run, part, objective, numbers, ball, steps, **more):
        taken.append((part, steps.steps if len(numbers) else 0))
        return search(run, part, objective, numbers, ball, steps, **more)

    monkeypatch.setattr(watching.Attacked, "search", counted)
    everything = torch.arange(len(bars_data.train))
    watching.guarded(fresh(bars_data), bars_data.train, everything, Adversary(eps=0.01, steps=2), 0, 0)
    assert taken[0] == ("pgd", 2)
    assert "random start" not in dict(taken)
    assert 10 <= sum(steps for _, steps in taken[1:]) <= watching.COST


def test_the_guard_looks_at_images_that_large_sets_hold_out(bars_data, monkeypatch):
    images, seen = bars_data.train, []
    monkeypatch.setattr(watching, "LARGE", len(images))
    monkeypatch.setattr(watching, "HELD", 0.1)
    plain = watching.Attacked

    def watched(classifier, some, *rest, **more):
        seen.append(some)
        return plain(classifier, some, *rest, **more)

    monkeypatch.setattr(watching, "Attacked", watched)
    settings = SHORT.model_copy(update={"epochs": 2, "adversary": Adversary(eps=0.3, steps=2)})
    trained = train(fresh(bars_data), images, settings)
    numbers, held = watching.held_out(images, settings.adversary, 0)
    assert len(held) == int(0.1 * len(images))
    assert sorted([*numbers.tolist(), *held.tolist()]) == list(range(len(images)))
    rows = {row.numpy().tobytes() for row in images.subset(held).pixels}
    assert [{row.numpy().tobytes() for row in some.pixels} for some in seen] == [rows, rows], "after every epoch"
    bare = settings.model_copy(update={"adversary": Adversary(eps=0.3, steps=2, guard=False)})
    assert same(trained, train(fresh(bars_data), images.subset(numbers), bare))


def test_what_the_guard_added_survives_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    images, file = load("digits").train.subset(slice(0, 600)), tmp_path / "checkpoint.safetensors"
    doubled = WEAK.model_copy(update={"steps": 2, "step_size": None})
    monkeypatch.setattr(training_loop, "guarded", lambda *arguments: doubled)
    settings = TOO_FEW.model_copy(update={"epochs": 3})
    whole = train(digits_classifier(), images, settings)

    def stop(done, total, note=""):
        if done > 0.9 * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(digits_classifier(), images, settings, checkpoint=file, progress=stop)
    assert same(whole, train(digits_classifier(), images, settings, checkpoint=file))


STOPPING = Training(epochs=5, batch=64, lr=0.05, patience=2, adversary=WEAK.model_copy(update={"guard": False}))


def test_early_stopping_keeps_the_epoch_that_withstands_the_strong_attack_best(monkeypatch):
    """A classifier that overfits to one long step has its most robust epoch before its last."""
    images, said, seen = load("digits").train.subset(slice(0, 600)), [], []
    judge = watching.score

    def watched(classifier, some, *rest):
        seen.append(some)
        said.append((judge(classifier, some, *rest), {name: t.clone() for name, t in classifier.state_dict().items()}))
        return said[-1][0]

    monkeypatch.setattr(watching, "score", watched)
    told = []
    kept = train(digits_classifier(), images, STOPPING, told=told.append)
    numbers = [score.right for score, _ in said]
    best = max(range(len(numbers)), key=lambda epoch: (numbers[epoch], epoch))
    gains = [number > max(numbers[:epoch], default=-1) or not number for epoch, number in enumerate(numbers)]
    gained = max(epoch for epoch, is_gain in enumerate(gains) if is_gain)
    assert len(numbers) == min(5, gained + 1 + 2), "two epochs without a better one end it"
    assert all(torch.equal(said[best][1][name], tensor) for name, tensor in kept.state_dict().items())
    held = told[0].held_out
    assert told[0].images + held == len(images)
    assert held == len(images) // 10
    assert (told[0].epochs, told[0].best_epoch, told[0].right) == (len(numbers), best + 1, numbers[best])
    again = evaluate(kept, seen[0], [WEAK.threat])[1].share
    assert (round(again.value * again.n), again.n) == (numbers[best], told[0].judged)


def test_classes_are_weighed_as_they_are_trained_on(bars_data):
    rare = (bars_data.train.labels == 1).nonzero().flatten()[20:]
    images = bars_data.train.subset(torch.tensor(sorted({*range(len(bars_data.train))} - {*rare.tolist()})))
    stopping = Training(epochs=1, batch=16, lr=0.05, balanced=True, patience=1)
    numbers, held = watching.held_out(images, None, 0, watching.to_stop_by(images, stopping))
    assert images.labels[held].float().mean() != images.labels.float().mean()
    alone = train(fresh(bars_data), images.subset(numbers), stopping.model_copy(update={"patience": 0}))
    assert same(alone, train(fresh(bars_data), images, stopping))


def test_a_plateau_ends_early_stopping_and_the_last_of_equals_is_kept(bars_data, monkeypatch):
    numbers, told = iter((3, 9, 9, 9, 9, 9)), []
    monkeypatch.setattr(watching, "score", lambda *rest: watching.Score(number := next(numbers), number))
    settings = SHORT.model_copy(update={"epochs": 6, "patience": 2})
    train(fresh(bars_data), bars_data.train, settings, told=told.append)
    assert (told[0].epochs, told[0].best_epoch) == (4, 4)


def test_balanced_training_stops_by_balanced_accuracy():
    """A classifier that names class 0 everywhere is right on 90 of 100, which says nothing of class 1."""
    labels = (torch.arange(100) % 10 == 0).long()
    images, network = Images(torch.rand(100, 1, 4, 4), labels), nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    network[1].weight.data.zero_()
    network[1].bias.data = torch.tensor([1.0, 0.0])
    classifier, plain = Classifier(network), Training(patience=1)
    same_class = plain.model_copy(update={"balanced": True})
    assert watching.score(classifier, images, plain, 0) == watching.Score(90, 90)
    assert watching.score(classifier, images, same_class, 0) == watching.Score(90, 0.5)
    attacked = same_class.model_copy(update={"adversary": Adversary(eps=0.1, steps=1)})
    assert watching.score(classifier, images, attacked, 0) == watching.Score(90, 0.5)
    both = Images(images.pixels, torch.stack([labels, 1 - labels], 1))  # of the second label, one in ten is right
    network[1].weight.data, network[1].bias.data = torch.zeros(2, 16), torch.tensor([-1.0, -1.0])
    assert watching.score(Classifier(network), both, same_class, 0) == watching.Score(100, 0.5)


def test_a_single_image_is_no_piece_of_a_batch():
    index = torch.arange(5)
    assert [len(index[piece]) for piece in pieces(index, 2)] == [2, 3]
    assert [len(index[piece]) for piece in pieces(index, 1)] == [1] * 5
    assert [len(index[piece]) for piece in pieces(torch.arange(3), 2)] == [3]


def test_early_stopping_survives_an_interruption(bars_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop, "CHECKPOINT_SECONDS", -1.0)
    """By balanced accuracy in balanced training: of the second epoch, though more are right in the others."""
    file, numbers = tmp_path / "checkpoint.safetensors", iter(2 * ((12, 0.3), (9, 0.5), (14, 0.4), (15, 0.4)))
    monkeypatch.setattr(watching, "score", lambda *rest: watching.Score(*next(numbers)))
    settings = SHORT.model_copy(update={"epochs": 8, "patience": 2, "balanced": True})
    whole, told = [], []
    ended = train(fresh(bars_data), bars_data.train, settings, told=whole.append)
    assert (whole[0].epochs, whole[0].best_epoch, whole[0].right, whole[0].steps) == (4, 2, 9, None)
    assert "9 of" in str(whole[0])
    assert "a balanced accuracy of 50.0%" in str(whole[0])

    def stop(done, total, note=""):
        if done > 2.5 * total / 8:  # in the third epoch, after the best one
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(bars_data), bars_data.train, settings, checkpoint=file, progress=stop)
    resumed = train(fresh(bars_data, seed=9), bars_data.train, settings, checkpoint=file, told=told.append)
    assert same(ended, resumed)
    assert told == whole


def test_early_stopping_needs_images_to_hold_out(bars_data):
    few = bars_data.train.subset(slice(0, 9))
    with pytest.raises(InputError, match="patience"):
        train(fresh(bars_data), few, SHORT.model_copy(update={"patience": 1}))
    several = Images(bars_data.train.pixels, torch.stack([bars_data.train.labels % 2, bars_data.train.labels // 2], 1))
    told, settings = [], Training(epochs=1, batch=16, lr=0.05, patience=1)
    train(fresh(bars_data), several, settings, told=told.append)
    assert told[0].judged == 2 * told[0].held_out > 0
