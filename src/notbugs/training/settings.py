"""What a training run is made of, which is also a section of a recipe, and the fresh classifier that it begins with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from notbugs.classifier import Classifier, Precision, default_device
from notbugs.data import Appearance, Augmentation, Data
from notbugs.given import checked
from notbugs.models import build
from notbugs.models.execution import to_channels_last
from notbugs.models.layers import WhitenedConv2d
from notbugs.models.registry import normalisation
from notbugs.normalisation import own_normaliser
from notbugs.search import PGDSteps
from notbugs.seeds import seeded
from notbugs.threat import Spatial, Threat, threat


class Adversary(BaseModel):
    """The search of adversarial training. Radius and step in pixel units, pixels in [0, 1].

    Examples
    --------
    >>> nb.Adversary(norm='linf', eps=8 / 255, steps=7).steps
    7
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Literal["l2", "linf"] = Field("l2", description="Of the ball.")
    eps: float = Field(0.5, ge=0, allow_inf_nan=False, description="Radius of the ball.")
    steps: int = Field(7, ge=1, description="Gradient steps on every batch.")
    step_size: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Length of a step; 2.5 eps / steps if not given."
    )
    guard: bool = Field(
        True,
        description="Double the steps where training is robust to these and no others, as the strong "
        "attack shows after every epoch on at most 250 images, held out of training if there are 10,000 or more.",
    )

    @property
    def threat(self) -> Threat:
        """The threat model."""
        return threat(self.norm, self.eps)

    @property
    def schedule(self) -> PGDSteps:
        """The steps of the search."""
        return PGDSteps(self.steps, self.step_size)


class SpatialTraining(BaseModel):
    """Training with rotations and shifts: of some random ones for every image, the worst (Engstrom et al. 2019).

    Examples
    --------
    >>> settings = nb.Training(epochs=1, spatial=nb.training.SpatialTraining(degrees=30, pixels=1))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    degrees: float = Field(30.0, ge=0, le=180, allow_inf_nan=False, description="Largest rotation, either way.")
    pixels: float = Field(3.0, ge=0, allow_inf_nan=False, description="Largest shift, either way along each axis.")
    tries: int = Field(10, ge=1, description="Random transformations for every image; it learns the worst of them.")

    @property
    def threat(self) -> Spatial:
        """The threat model."""
        return Spatial(self.degrees, self.pixels)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Transformations for `count` images, shape (count, tries, 3)."""
        return self.threat.random(count * self.tries, generator).view(count, self.tries, 3)


class AppearanceTraining(BaseModel):
    """Training with changes that people hardly notice: of some random ones for every image, the worst; or by gradient.

    Examples
    --------
    >>> settings = nb.Training(epochs=1, appearance=nb.training.AppearanceTraining(tries=2, jpeg=0))
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    brightness: float = Field(0.05, ge=0, le=1, allow_inf_nan=False, description="Added at most, either way.")
    contrast: float = Field(0.1, ge=0, le=1, allow_inf_nan=False, description="Change of contrast at most, as a share.")
    hue: float = Field(5.0, ge=0, le=180, allow_inf_nan=False, description="Turn of hue at most, degrees, either way.")
    blur: float = Field(
        0.5, ge=0, le=4, allow_inf_nan=False, description="Largest standard deviation of blur, in 32nds of a side."
    )
    jpeg: int = Field(80, ge=0, le=95, description="Lowest quality of JPEG; 0: no JPEG.")
    tries: int = Field(4, ge=1, description="Random changes for every image; it learns the worst of them.")
    steps: int = Field(
        0, ge=0, description="Gradient steps in place of them, from one random change; JPEG has no gradient."
    )

    @model_validator(mode="after")
    def _check_search(self) -> AppearanceTraining:
        if self.steps and self.tries != AppearanceTraining.model_fields["tries"].default:
            raise ValueError(
                "tries are of random changes, which steps take the place of: leave out one of the two, or give 4 tries"
            )
        return self

    @property
    def ranges(self) -> Appearance:
        """The changes."""
        return Appearance(self.brightness, self.contrast, self.hue, self.blur, self.jpeg)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Changes for `count` images, shape (count, tries, 5); one each, where a gradient search begins there."""
        tries = 1 if self.steps else self.tries
        return self.ranges.random(count * tries, generator).view(count, tries, Appearance.parameters)


class Training(BaseModel):
    """Stochastic gradient descent with momentum and a learning rate that rises, then falls to 0, or drops.

    Examples
    --------
    >>> settings = nb.Training(epochs=2, batch=64, adversary=nb.Adversary(norm='l2', eps=0.5, steps=3))
    >>> settings.adversary.eps
    0.5
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(20, ge=1, description="Passes over the data.")
    batch: int = Field(128, ge=2, description="Images in a batch.")
    microbatch: int | None = Field(
        None,
        ge=2,
        description="Images that are on each device at once; gradients are summed up to a batch. All if not given.",
    )
    lr: float = Field(0.1, gt=0, allow_inf_nan=False, description="Largest learning rate.")
    warmup: float = Field(0.2, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    drops: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (), description="Shares of the steps after which the learning rate falls to a tenth, in place of rise and fall."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum.")
    nesterov: bool = Field(True, description="Nesterov's form of the momentum; else the plain one.")
    weight_decay: float = Field(5e-4, ge=0, allow_inf_nan=False, description="Decay of every weight.")
    shift: int = Field(0, ge=0, description="Augmentation: shift by up to so many pixels.")
    flip: bool = Field(False, description="Augmentation: mirror images.")
    jitter: float = Field(
        0.0, ge=0, le=1, description="Augmentation: brightness, contrast and saturation, each by up to this share."
    )
    degrees: float = Field(0.0, ge=0, le=180, description="Augmentation: turn by up to so many degrees.")
    balanced: bool = Field(
        False,
        description="Weigh images so that every class counts the same; of several labels, having and lacking one.",
    )
    patience: int = Field(
        0,
        ge=0,
        description="Early stopping: training ends after so many epochs without a better accuracy on held-out images, "
        "at most a tenth, and keeps the best epoch's weights; by the strong attack in adversarial training, and every "
        "class the same with `balanced`. 0: off.",
    )
    adversary: Adversary | None = Field(None, description="Trains adversarially where present.")
    spatial: SpatialTraining | None = Field(None, description="Trains with rotations and shifts where present.")
    appearance: AppearanceTraining | None = Field(
        None, description="Trains with changes of brightness, contrast, hue, blur and JPEG where present."
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> Training:
        if self.drops and self.warmup != Training.model_fields["warmup"].default:
            raise ValueError(
                "warmup is of a learning rate that rises and falls: leave it out where there are drops, or give 0.2"
            )
        return self

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of a training batch."""
        return Augmentation(self.shift, self.flip, self.jitter, self.degrees)

    @property
    def name(self) -> Literal["standard", "adversarial"]:
        """`standard`, or `adversarial` where there is an adversary."""
        return "adversarial" if self.adversary else "standard"


WHITENED = 2000
"""Training images whose patches a whitening layer is computed from."""


@checked
def new_classifier(
    data: Data,
    architecture: str = "cnn",
    *,
    seed: int = 0,
    precision: Precision = "auto",
    device: torch.device | None = None,
    **options: Any,
) -> Classifier:
    """An untrained classifier for `data`, with the normalisation of its training images.

    With `pretrained=True`, where the architecture has it, the weights and the normalisation are the published ones.

    Parameters
    ----------
    data : Data
        Gives the channels, the size, the classes and the statistics.
    architecture : str
        As `notbugs.models.build` takes it; `options` go to it, for instance `width` and `features` of `cnn`.
    seed : int
        The weights follow from it; torch's global generator is left as it was.
    precision : {"auto", "fp32", "bf16"}
        What the network computes in.
    device : torch.device, optional
        The accelerator that torch reports, else the CPU.

    Raises
    ------
    InputError
        If there is no such architecture or option.

    Examples
    --------
    >>> classifier = nb.new_classifier(data, 'cnn', width=4, features=8)
    >>> classifier.features(inputs).shape
    torch.Size([20, 8])
    """
    channels, height, width = data.train.shape
    with seeded(seed, "weights"):
        network = build(architecture, channels=channels, classes=len(data.classes), size=(height, width), **options)
    published = normalisation(architecture) if options.get("pretrained") else None
    mean, std = published or (((0.0,), (1.0,)) if own_normaliser(network, channels) else data.channel_statistics)
    classifier = Classifier(network, mean=mean, std=std, channel_order="rgb", precision=precision)
    to_channels_last(classifier, data.train.shape)
    for module in classifier.modules():
        if isinstance(module, WhitenedConv2d):
            images, _ = data.train.sample(WHITENED, seed, "whitening").batch(slice(None))
            module.fit((images - classifier.mean) / classifier.std)
    return classifier.to(device or default_device())
