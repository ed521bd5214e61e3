from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from notbugs.classifier import Classifier
from notbugs.data import Images
from notbugs.errors import InputError
from notbugs.measure import evaluate
from notbugs.search import PGDSteps, match_features, pgd
from notbugs.seeds import seeded
from notbugs.threat import L2
from tests.conftest import random_images

LABELS = torch.tensor([0, 1, 1])


def flat(features: int = 7, classes: int = 4) -> nn.Sequential:
    """For 2x6x6 images: flatten, a hidden layer, a head."""
    with seeded(3):
        return nn.Sequential(nn.Flatten(), nn.Linear(72, features), nn.ReLU(), nn.Linear(features, classes))


class OnlyOne(nn.Module):
    """Of two linear layers, `auxiliary` is never called."""

    def __init__(self):
        super().__init__()
        self.fc, self.auxiliary = nn.Linear(72, 4), nn.Linear(4, 4)

    def forward(self, images):
        return self.fc(images.flatten(1))


class TwoHeads(nn.Module):
    """The auxiliary head is registered last; `answer` makes what is returned of logits, auxiliary and features."""

    def __init__(self, answer=lambda logits, auxiliary: logits, first="fc"):
        super().__init__()
        with seeded(4):
            self.body = nn.Linear(72, 7)
            self.fc, self.auxiliary = nn.Linear(7, 4), nn.Linear(72, 4)
        self.answer = answer
        self.order = ("fc", "auxiliary") if first == "fc" else ("auxiliary", "fc")

    def forward(self, images):
        inputs = {"auxiliary": images.flatten(1), "fc": self.body(images.flatten(1)).relu()}
        outputs = {name: getattr(self, name)(inputs[name]) for name in self.order}
        return self.answer(outputs["fc"], outputs["auxiliary"])


def attacked(classifier: Classifier) -> torch.Tensor:
    """What an attack and an accuracy need, on 2x6x6 images."""
    images = random_images(3).to(classifier.device)
    found = pgd(classifier, images, LABELS, L2(0.5), PGDSteps(3)).images
    assert 0 < (found - images).flatten(1).norm(dim=1).max() <= 0.5 + 1e-5
    assert 0 <= evaluate(classifier, Images(random_images(3), LABELS))[0].share.value <= 1
    return found


# Logits and features


def test_logits_are_the_head_of_the_features(small):
    images = random_images(3)
    small.eval()
    torch.testing.assert_close(small.head(small.features(images)), small(images))


def test_normalisation_belongs_to_the_classifier(small):
    images = random_images(3)
    small.eval()
    mean, std = torch.tensor([0.4, 0.6]).view(-1, 1, 1), torch.tensor([0.3, 0.2]).view(-1, 1, 1)
    torch.testing.assert_close(small(images), small.network((images - mean) / std))


def test_features_stop_at_the_head_and_leave_no_hook(small):
    small.eval()
    first = small.features(random_images(2))
    small.head.register_forward_hook(lambda *_: pytest.fail("the head was computed"))
    assert torch.equal(small.features(random_images(2)), first)
    assert not small.head._forward_pre_hooks
    assert len(small.head._forward_hooks) == 1


def test_features_take_one_pass_from_the_first_call_on(small):
    passes = []
    small.network.register_forward_pre_hook(lambda *_: passes.append(1))
    small.train()
    for count in (1, 2):
        small.features(random_images(2))
        assert len(passes) == count
        assert small.network[1].num_batches_tracked == count


def test_features_and_logits_of_one_pass_are_those_of_two(small):
    small.eval()
    images, passes = random_images(3), []
    small.network.register_forward_pre_hook(lambda *_: passes.append(1))
    wanted = small.features(images), small(images)
    passes.clear()
    assert all(map(torch.equal, small.features_and_logits(images), wanted))
    assert passes == [1]


def test_features_and_logits_of_a_head_that_does_not_give_the_logits(small):
    class Other(Classifier):  # its own linear layer on the features, as a refitted head's
        def forward(self, images):
            return self.features(images)[:, :3] * 2

    for classifier in (Other(flat()), Other(flat(), head="3")):
        features, logits = classifier.features_and_logits(random_images(2))
        assert torch.equal(features, Classifier(flat()).features(random_images(2)))
        assert torch.equal(logits, features[:, :3] * 2)
    with pytest.raises(InputError, match="never called its layer 'auxiliary'"):
        Classifier(OnlyOne(), head="auxiliary").features_and_logits(random_images(2))


def test_the_head_can_be_named():
    assert Classifier(flat()).features(random_images(2)).shape == (2, 7)
    assert Classifier(flat(), head="1").features(random_images(2)).shape == (2, 72)
    with pytest.raises(InputError, match="'head' must name a module of the network. Got 'fc'.* Did you mean '3'"):
        Classifier(flat(), head="fc")
    with pytest.raises(InputError, match="Did you mean 'auxiliary'"):
        Classifier(TwoHeads(), head="auxilliary")


def test_a_network_that_never_calls_its_head_is_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(4, 4)

        def forward(self, images):
            return images.flatten(1)[:, :4]

    for head in (None, "unused"):
        classifier = Classifier(Odd(), head=head)
        with pytest.raises(InputError, match="never called its layer 'unused'. Name with 'head' .--head. the module"):
            classifier.features(random_images(2))
    assert classifier(random_images(2)).shape == (2, 4)


@pytest.mark.parametrize("first", ["fc", "auxiliary"])
def test_a_head_that_does_not_give_the_logits_is_found_out(first):
    classifier = Classifier(TwoHeads(first=first))
    assert classifier.head_name == "auxiliary"
    with pytest.raises(InputError, match=r"logits come from the layer 'fc', not from 'auxiliary'.* head='fc'\."):
        classifier.features(random_images(2))
    assert attacked(classifier).shape == (3, 2, 6, 6)
    assert Classifier(TwoHeads(), head="fc").features(random_images(2)).shape == (2, 7)


def test_logits_that_are_scaled_after_the_head_are_accepted():
    classifier = Classifier(nn.Sequential(flat(), nn.LogSoftmax(1)))
    assert classifier.features(random_images(2)).shape == (2, 7)


def test_logits_of_two_heads_together_have_no_one_head():
    """As in distilled transformers, whose logits are the mean of two heads'."""
    together = TwoHeads(answer=lambda logits, auxiliary: (logits + auxiliary) / 2)
    with pytest.raises(InputError, match=r"No nn\.Linear gives the logits.* called last are body, fc, auxiliary"):
        Classifier(together).features(random_images(2))
    assert Classifier(together, head="fc").features(random_images(2)).shape == (2, 7)


class Attention(nn.Module):
    """Its only linear layer has an output for each class, and weighs those of a convolution."""

    def __init__(self):
        super().__init__()
        self.head, self.weights = nn.Conv2d(2, 4, 6), nn.Linear(2, 4)

    def forward(self, images):
        return self.head(images).flatten(1) * self.weights(images.mean((2, 3))).softmax(1)


class Mirrored(nn.Module):
    """Takes the mean over an image and its mirror image."""

    def __init__(self):
        super().__init__()
        self.network = flat()

    def forward(self, images):
        return (self.network(images) + self.network(images.flip(3))) / 2


@pytest.mark.parametrize("network", [Attention(), Mirrored()])
def test_logits_that_do_not_come_from_one_call_of_the_head_alone(network):
    classifier = Classifier(network)
    name = classifier.head_name
    with pytest.raises(InputError, match=f"do not come from one call of the layer '{name}' alone.* Name with 'head'"):
        classifier.features(random_images(2))
    assert Classifier(network, head=name).features(random_images(2)).shape[0] == 2


def test_a_head_registered_before_layers_that_are_never_called():
    class Attending(nn.Module):
        """Attention takes the weights of its `out_proj`, the last nn.Linear, and never calls it."""

        def __init__(self):
            super().__init__()
            self.head, self.attention = nn.Linear(36, 4), nn.MultiheadAttention(36, 2, batch_first=True)

        def forward(self, images):
            tokens = images.flatten(2)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    with pytest.raises(InputError, match=r"come from the layer 'head', not from 'attention\.out_proj'.* head='head'\."):
        Classifier(Attending()).features(random_images(2))


def test_a_head_that_is_not_linear():
    """A 1x1 convolution and a global average: everything but features works, and these once the head is named."""
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(5, 4, 1), nn.Flatten())
    classifier = Classifier(network)
    assert classifier.head_name is None
    assert attacked(classifier).shape == (3, 2, 6, 6)
    for ask in (lambda: classifier.head, lambda: classifier.features(random_images(2))):
        with pytest.raises(InputError, match=r"has no nn\.Linear.* Name with 'head' .--head. the module whose inputs"):
            ask()
    images = random_images(3)
    named = Classifier(network, head="3")
    assert torch.equal(named.features(images), network[:3](images).flatten(1))
    found = match_features(named, images, images.flip(0), PGDSteps(3, 0.1))
    assert found.images.shape == images.shape


def test_linear_layers_that_are_no_head_are_found_out():
    class Gated(nn.Module):
        """A linear layer inside the body, as in squeeze and excitation, and a convolution as the head."""

        def __init__(self):
            super().__init__()
            self.gate, self.head = nn.Linear(2, 2), nn.Conv2d(2, 4, 6)

        def forward(self, images):
            return self.head(images * self.gate(images.mean((2, 3)))[:, :, None, None]).flatten(1)

    with pytest.raises(InputError, match=r"No nn\.Linear gives the logits.*called last are gate"):
        Classifier(Gated()).features(random_images(2))
    assert Classifier(Gated(), head="head").features(random_images(2)).shape == (2, 72)


def test_a_head_called_by_keyword_and_one_without_a_row_for_each_image():
    class Keyword(nn.Module):
        def __init__(self, rows):
            super().__init__()
            self.fc, self.rows = nn.Linear(36, 4), rows

        def forward(self, images):
            logits = self.fc(input=images.flatten(1).reshape(self.rows, 36))
            return logits.reshape(len(images), 2, 4).sum(1)

    with pytest.raises(InputError, match="'fc' must have one row for each of the 2 images. Got .*shape \\(4, 36\\)"):
        Classifier(Keyword(4), head="fc").features(random_images(2))
    whole = nn.Module()
    whole.fc = nn.Linear(72, 4)
    whole.forward = lambda images: whole.fc(input=images.flatten(1))
    assert Classifier(whole).features(random_images(2)).shape == (2, 72)
    assert Classifier(whole, head="fc").features(random_images(2)).shape == (2, 72)


# What a network may return


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


class Named(NamedTuple):
    logits: torch.Tensor
    auxiliary: torch.Tensor


ANSWERS = {
    "a tuple of one": lambda logits, auxiliary: (logits,),
    "a dataclass": lambda logits, auxiliary: Answer(logits, auxiliary),
    "a dictionary": lambda logits, auxiliary: {"auxiliary": auxiliary, "logits": logits},
    "a named tuple": lambda logits, auxiliary: Named(logits, auxiliary),
    "an ordered mapping": lambda logits, auxiliary: OrderedDict(loss=None, logits=logits),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_outputs_whose_logits_are_plain_to_see(name):
    images = random_images(3)
    classifier = Classifier(TwoHeads(ANSWERS[name]), head="fc")
    assert torch.equal(classifier(images), Classifier(TwoHeads(), head="fc")(images))
    assert attacked(classifier).shape == (3, 2, 6, 6)
    assert classifier.features(images).shape == (3, 7)


@pytest.mark.parametrize("classes", [1, 4])
def test_outputs_that_are_squeezed_in_a_batch_of_one_too(classes):
    network, images = flat(classes=classes), random_images(3)
    squeezed = Classifier(TwoHeads(lambda logits, auxiliary: network(images[: len(logits)]).squeeze()), head="fc")
    for count in (3, 1):
        assert torch.equal(squeezed(images[:count]), Classifier(network)(images[:count]))


def test_outputs_that_must_be_named():
    images = random_images(3)
    pair = TwoHeads(lambda logits, auxiliary: (auxiliary, logits))
    with pytest.raises(InputError, match=r"'output' must say which.*'auto'.*tuple \(0: \(3, 4\), 1.*one of 0, 1\."):
        Classifier(pair)(images)
    assert torch.equal(Classifier(pair, output=1)(images), Classifier(TwoHeads())(images))
    keyed = TwoHeads(lambda logits, auxiliary: {"fine": logits, "coarse": auxiliary})
    with pytest.raises(InputError, match="one of 'fine', 'coarse'"):
        Classifier(keyed, output="logits")(images)
    assert torch.equal(Classifier(keyed, output="fine")(images), Classifier(TwoHeads())(images))
    with pytest.raises(InputError, match="returned str. Choose one of none"):
        Classifier(TwoHeads(lambda *_: "logits"))(images)


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda logits: logits[:, :, None, None], r"float32 of shape \(3, 4, 1, 1\) for 3 images"),
        (lambda logits: logits[:, :0], r"shape \(3, 0\)"),
        (lambda logits: logits[:2], r"shape \(2, 4\)"),
        (lambda logits: logits.argmax(1, keepdim=True).expand(3, 2), "int64"),
    ],
)
def test_what_is_not_logits_is_refused(change, got):
    wanted = rf"logits of shape \(batch, class\), or \(batch,\) or \(batch, 1\) for two classes. Got .*{got}"
    with pytest.raises(InputError, match=wanted):
        Classifier(TwoHeads(lambda logits, _: change(logits)))(random_images(3))


# Precision, devices and wrappers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_keeps_its_dtype(dtype, precision):
    images = random_images(3)
    reference, classifier = Classifier(flat()), Classifier(flat().to(dtype), precision=precision)
    assert classifier(images).dtype == classifier.features(images).dtype == torch.float32
    assert classifier(images.double()).dtype == torch.float64
    tolerance = {"rtol": 0, "atol": 0.02}
    torch.testing.assert_close(classifier(images), reference(images), **tolerance)
    torch.testing.assert_close(classifier.features(images), reference.features(images), **tolerance)
    assert attacked(classifier).shape == (3, 2, 6, 6)


def test_a_temperature_does_not_say_the_dtype_of_its_network():
    class Tempered(nn.Module):
        """As in "On calibration of modern neural networks": its own parameter comes before those of its network."""

        def __init__(self):
            super().__init__()
            self.network, self.temperature = flat().to(torch.bfloat16), nn.Parameter(torch.ones(1))

        def forward(self, images):
            return self.network(images) / self.temperature

    classifier, images = Classifier(Tempered()), random_images(3)
    assert torch.equal(classifier(images), Classifier(flat().to(torch.bfloat16))(images))


def test_images_of_another_precision_are_cast(small):
    small.eval()
    images = random_images(3)
    torch.testing.assert_close(small(images.double()), small(images).double(), rtol=0, atol=1e-5)


def test_the_classifier_follows_its_network(small):
    meta = Classifier(flat().to("meta"), mean=(0.1, 0.2), std=(1, 1))
    assert meta.device == meta.mean.device == torch.device("meta")
    with pytest.raises(InputError, match="'images' must be on the network's device, meta. Got 'cpu'.*Move them"):
        meta(random_images(2))
    small.network.to(torch.float64)  # moved after it was wrapped
    assert small(random_images(2)).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's compiler looks
@pytest.mark.parametrize("wrap", [lambda network: torch.compile(network, backend="eager"), nn.DataParallel])
@pytest.mark.parametrize("head", [None, "3"])
def test_wrapped_networks(wrap, head):
    images, plain = random_images(3), Classifier(flat())
    classifier = Classifier(wrap(flat()), head=head)
    assert classifier.head_name == "3"
    assert torch.equal(classifier.features_and_logits(images)[0], plain.features(images))
    assert torch.equal(classifier(images), plain(images))
    for _ in range(2):
        assert torch.equal(classifier.features(images), plain.features(images))
    assert torch.equal(attacked(classifier), attacked(plain))


def test_distributed_data_parallel(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        classifier = Classifier(nn.parallel.DistributedDataParallel(flat()))
        for _ in range(2):  # a search never finishes the reduction that a training step waits for
            assert torch.equal(attacked(classifier), attacked(Classifier(flat())))
            assert classifier.features(random_images(2)).shape == (2, 7)
        reductions = []
        classifier.network.register_forward_pre_hook(lambda *_: reductions.append(1))
        classifier.train()(random_images(2)).sum().backward()
        assert reductions == [1]
        assert classifier.head.weight.grad is not None
        KEPT.append(classifier)  # freeing its group joins threads under a lock that one of them may still wait for
    finally:
        torch.distributed.destroy_process_group()


KEPT: list[Classifier] = []


def test_tied_and_parametrised_weights():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(72, 72, bias=False)
            self.again = self.fc

        def forward(self, images):
            return self.again(self.fc(images.flatten(1)))

    with seeded(0):
        classifier = Classifier(Tied(), head="again")
    assert torch.equal(classifier.features(random_images(2)), random_images(2).flatten(1))  # its first call
    network = flat()
    parametrizations.weight_norm(network[3])
    assert Classifier(network).features(random_images(2)).shape == (2, 7)
    assert attacked(Classifier(network)).shape == (3, 2, 6, 6)


def test_a_network_with_its_own_normalisation():
    class Normalised(nn.Sequential):
        def forward(self, images):
            return super().forward((images - 0.5) / 0.25)

    inside, outside = Classifier(Normalised(*flat())), Classifier(flat(), mean=(0.5,), std=(0.25,))
    torch.testing.assert_close(inside(random_images(3)), outside(random_images(3)))


def test_a_network_without_weights():
    class Brightness(nn.Module):
        def forward(self, images):
            return functional.adaptive_avg_pool2d(images, 1).flatten(1)

    classifier = Classifier(Brightness())
    assert classifier.device.type == "cpu"
    assert attacked(classifier).shape == (3, 2, 6, 6)


# What is refused


def test_a_normalisation_that_does_not_fit():
    with pytest.raises(InputError, match="'mean' must have as many values as the 'std'"):
        Classifier(flat(), mean=(0.5, 0.5))
    with pytest.raises(InputError, match="'std' must be above 0 and finite"):
        Classifier(flat(), mean=(0.5,), std=(0.0,))
    with pytest.raises(InputError, match="'mean' must be finite"):
        Classifier(flat(), mean=(float("nan"),), std=(1.0,))
    classifier = Classifier(flat(), mean=(0.5,) * 3, std=(0.2,) * 3)
    with pytest.raises(InputError, match=r"'images' must have 3 channels, as the 'mean'.*Got \(2, 2, 6, 6\)"):
        classifier(random_images(2))
    with pytest.raises(InputError, match="3 channels"):
        classifier(random_images(2, (1, 6, 6)))


def test_what_is_not_images(unchecked):
    for images in (torch.zeros(2, 2, 6, 6, dtype=torch.uint8), torch.zeros(2, 6, 6)):
        with pytest.raises(InputError, match="'images' must be floating point in"):
            Classifier(flat())(images)


def test_unknown_precision(unchecked):
    with pytest.raises(InputError, match="'precision' must be one of auto, fp32, bf16"):
        Classifier(nn.Linear(2, 2), precision="fp8")


def test_evaluating_restores_every_mode_also_after_an_error(small):
    small.train()
    small.network[1].eval()
    with pytest.raises(KeyError), small.evaluating("bf16"):
        assert not any(module.training for module in small.modules())
        assert small.precision == "bf16"
        raise KeyError
    assert small.training
    assert not small.network[1].training
    assert small.network[3].training
    assert small.precision == "fp32"
