"""What is attacked: a briefly trained model and images it gets right, written once for every library to read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import notbugs as nb
from benchmarks import nets
from benchmarks.search.loops import Normalised
from notbugs.errors import InputError
from notbugs.files import read_tensors, write_tensors
from notbugs.seeds import derive, generator

CACHE = Path("~/.cache/notbugs-bench")
TRAINING = {"cnn": (5000, 2), "resnet9": (2560, 1), "resnet18": (2560, 1)}  # images, epochs
CLASSES, SHAPE = 10, (3, 32, 32)  # of smooth noise


@dataclass(frozen=True)
class Case:
    """A model with its images, as a file of tensors."""

    path: Path
    model: str
    classes: int
    mean: list[float]
    std: list[float]
    images: int
    accuracy: float
    options: dict[str, int] = field(default_factory=dict)

    @property
    def job(self) -> dict[str, Any]:
        """What a worker has to know to build the model."""
        known = ("model", "classes", "mean", "std", "options")
        return {"case": str(self.path)} | {name: getattr(self, name) for name in known}

    def tensors(self) -> dict[str, Tensor]:
        """The file's content."""
        return read_tensors(self.path)

    def network(self, tensors: dict[str, Tensor]) -> Normalised:
        """The plain fp32 model with the weights among `tensors`, in evaluation mode."""
        return Normalised(network(self.model, self.classes, self.options, tensors), self.mean, self.std).eval()


def network(model: str, classes: int, options: dict[str, int], tensors: dict[str, Tensor]) -> nn.Module:
    """The network with the weights that are among `tensors` under `model.`."""
    built = nets.build(model, SHAPE[0], classes, **options)
    built.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    return built


def load(source: str | None, seed: int) -> nb.Data:
    """The data in a folder; without one, images made of smooth noise, so that the benchmark runs anywhere."""
    return nb.load(source) if source else smooth_noise(seed)


def smooth_noise(seed: int, train: int = 5000, test: int = 1000) -> nb.Data:
    """Ten classes, each a smooth pattern of its own under a stronger smooth noise and a fine one."""
    draw = generator(seed, "smooth noise")
    patterns = interpolate(torch.randn(CLASSES, 3, 8, 8, generator=draw), size=SHAPE[1:], mode="bicubic")

    def images(count: int) -> nb.Images:
        labels = torch.arange(count) % CLASSES
        smooth = interpolate(torch.randn(count, 3, 8, 8, generator=draw), size=SHAPE[1:], mode="bicubic")
        fine = torch.randn(count, *SHAPE, generator=draw)
        pixels = 0.5 + 0.05 * patterns[labels] + 0.15 * smooth + 0.03 * fine
        return nb.Images((pixels.clamp(0, 1) * 255).round().byte(), labels)

    return nb.Data("smooth noise", images(train), images(test), tuple(map(str, range(CLASSES))))


def make_case(
    model: str, data: nb.Data, folder: Path, *, images: int, train_images: int, seed: int, weights: Path | None = None
) -> Case:
    """Train `model` briefly, or read its weights, and write it with test images that it gets right."""
    mean, std = data.channel_statistics
    trained = read_tensors(weights) if weights else train(model, data, seed)
    chosen, accuracy = attackable(model, data, trained, images, seed)
    inputs, labels = data.test.batch(chosen)
    draw = generator(seed, "targets")
    guides = data.test.batch(torch.randperm(len(data.test), generator=draw)[: len(chosen)])[0]
    shift = torch.randint(1, len(data.classes), labels.shape, generator=draw)
    train_inputs, train_labels = data.train.sample(train_images, seed, "adversarial training").batch(slice(None))
    path = folder / f"{model}.safetensors"
    write_tensors(
        path,
        {
            **trained, "images": inputs, "labels": labels, "targets": (labels + shift) % len(data.classes),
            "guides": guides, "train.images": train_inputs, "train.labels": train_labels,
        },
    )  # fmt: skip
    return Case(path, model, len(data.classes), mean, std, len(chosen), accuracy)


def train(model: str, data: nb.Data, seed: int) -> dict[str, Tensor]:
    """Weights after a brief standard training, kept in the cache under everything that they follow from."""
    count, epochs = TRAINING[model]
    settings = nb.Training(epochs=epochs, lr=0.05, flip=True)
    key = [model, data.fingerprint, count, settings.model_dump(mode="json"), seed, torch.__version__, nb.__version__]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    path = CACHE.expanduser() / f"{model}-{name}.safetensors"
    if not path.exists():
        built = nets.build(model, data.train.shape[0], len(data.classes), seed=derive(seed, "weights"))
        mean, std = data.channel_statistics
        classifier = nb.Classifier(built, mean=mean, std=std, precision="auto").to(nb.classifier.default_device())
        nb.train(classifier, data.train.sample(count, seed, "brief training"), settings, seed=seed)
        write_tensors(path, {f"model.{name}": value for name, value in classifier.network.state_dict().items()})
    return read_tensors(path)


def attackable(model: str, data: nb.Data, weights: dict[str, Tensor], count: int, seed: int) -> tuple[Tensor, float]:
    """Indices of `count` test images at random among those that the model gets right, and its accuracy."""
    mean, std = data.channel_statistics
    plain = Normalised(network(model, len(data.classes), {}, weights), mean, std).eval()
    sample = torch.randperm(len(data.test), generator=generator(seed, "images"))[: 4 * count]
    with torch.no_grad():
        right = [plain(x).argmax(1) == y for x, y in (data.test.batch(part) for part in sample.split(256))]
    found = torch.cat(right)
    if not found.any():
        raise InputError(f"The {model} gets none of {len(sample)} test images right. Give it other 'weights'.")
    return sample[found][:count], float(found.float().mean())
