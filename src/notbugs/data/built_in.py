"""Data that need no download: digits, chest x-rays, and made images whose features are known.

An image of class y is mid-grey, a coarse pattern of y, a fine pattern of y, and Gaussian noise along every pattern and
on every pixel. Patterns are Walsh functions: orthogonal, of two values, so that every pixel carries an equal part. The
coarse ones are strong and noisy, the fine ones weak and hardly noisy: a small step in l2 turns these round, not those.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from notbugs.data.classes import class_names
from notbugs.data.images import Data, Images
from notbugs.errors import InputError, check_choice, check_count, check_number, must
from notbugs.seeds import generator
from notbugs.shapes import Batch

DIGITS_TESTED_ON = 360


def digits() -> Data:
    """The digits, split once and for all into 1,437 training and 360 test images.

    The 17 grey levels 0..16 become [0, 1].

    Raises
    ------
    InputError
        If scikit-learn, which carries the images, is not installed.
    """
    pixels, target = _read_digits()
    images = torch.from_numpy(pixels).float().div(16).view(-1, 1, 8, 8)
    labels = torch.tensor(target).long()
    order = torch.randperm(len(labels), generator=generator(0, "digits split"))
    test, train = order[:DIGITS_TESTED_ON].sort().values, order[DIGITS_TESTED_ON:].sort().values
    return Data("digits", Images(images[train], labels[train]), Images(images[test], labels[test]), class_names(10))


@cache
def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels and classes, from the file of scikit-learn, whose import takes longer than reading it."""
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise InputError("The digits come with scikit-learn: pip install 'notbugs[digits]'.")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():  # another version may keep it elsewhere
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)  # pyrefly: ignore
    with gzip.open(file, "rt") as lines:
        values = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    return values[:, :-1], values[:, -1]


X_RAYS = "pneumonia.npz"
X_RAYS_SHA256 = "ea3db5f68ec8185759e0a5dcac2b2edfd8b9ef14f1f93ae180215ba51fd3421f"


def pneumonia() -> Data:
    """2,000 training images, half of each class, and all 624 test images of PneumoniaMNIST, grey, uint8.

    From MedMNIST v2 (Yang et al. 2023), which made them of x-rays of children of one to five years from one hospital
    in Guangzhou (Kermany et al. 2018); CC BY 4.0, see `data/shipped/pneumonia.md`. The training images were drawn from
    the 4,708 of the original, as many of either class, so that chance is one half; of equal images one stays. The test
    images keep their proportion, 234 normal and 390 with pneumonia.

    Several images may show one patient. Images held out of training may then share patients with it; the test images
    are the original authors' own split.

    Raises
    ------
    InputError
        If the file that is installed with notbugs was damaged.
    """
    content = (resources.files("notbugs.data") / "shipped" / X_RAYS).read_bytes()
    if hashlib.sha256(content).hexdigest() != X_RAYS_SHA256:
        raise InputError(f"The images in {X_RAYS} are not those that came with notbugs. Install notbugs again.")
    with np.load(BytesIO(content), allow_pickle=False) as archive:
        train, test = (
            Images(
                torch.from_numpy(archive[f"{split}_images"])[:, None],
                torch.from_numpy(archive[f"{split}_labels"]).long(),
            )
            for split in ("train", "test")
        )
        return Data("pneumonia", train, test, tuple(archive["classes"].tolist()))


KINDS = ("robust", "nonrobust")
MOST_CLIPPED = 1e-3


@dataclass(frozen=True)
class Planted:
    """A data set and the truth about it.

    The feature of a template is the projection of the image on it, standardised over the distribution; it is a feature
    of the class that the template codes, against all others.

    Attributes
    ----------
    data : Data
        The images, float32.
    templates : Tensor
        Shape (template, channel, height, width); orthonormal.
    codes : Tensor
        Shape (template,): the class each codes.
    kinds : tuple of {"robust", "nonrobust"}
        Of each template.
    strength : Tensor
        Shape (template,): l2 length of what its class has of it.
    noise : Tensor
        Shape (template,): standard deviation of the projection inside a class.
    clipped : float
        Probability that a pixel is outside [0, 1] and clipped: what the formulas here leave out.

    Examples
    --------
    >>> made = nb.planted(train=40, test=20)
    >>> len(made.data.train)
    40
    """

    data: Data
    templates: Tensor
    codes: Tensor
    kinds: tuple[str, ...]
    strength: Tensor
    noise: Tensor
    clipped: float

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each projection over all classes, shape (template,)."""
        return (self.strength.square() * self._spread + self.noise.square()).sqrt()

    @property
    def usefulness(self) -> Tensor:
        """rho = E[y f] of each feature, y = +1 for its class and -1 for the others; shape (template,)."""
        return 2 * self.strength * self._spread / self.deviation

    def robust_usefulness(self, eps: float) -> Tensor:
        """gamma = E[min y f(x + d)] over all d no longer than `eps` in l2; shape (template,), signed.

        A template has length 1, so the worst step takes eps / deviation from y f.
        """
        return self.usefulness - check_number("eps", eps) / self.deviation

    def features(self, images: Batch) -> Float[Tensor, "batch template"]:
        """The feature of each template, standardised by the distribution, not by these images."""
        projections = (images - 0.5).flatten(1) @ self.templates.flatten(1).T
        return (projections - self.strength / len(self.data.classes)) / self.deviation

    def accuracy(self, kind: str) -> float:
        """Of the best classifier that sees the templates of one kind alone.

        It takes the class with the largest projection: right with probability E[Phi(u + strength / noise)^(k - 1)],
        u standard normal, k classes.
        """
        chosen = self.kinds.index(check_choice("kind", kind, KINDS))
        u = torch.linspace(-10, 10, 4001, dtype=torch.float64)
        density = torch.exp(-u.square() / 2) / math.sqrt(2 * math.pi)
        ratio = float(self.strength[chosen] / self.noise[chosen])
        others = len(self.data.classes) - 1
        return float(torch.trapezoid(density * torch.special.ndtr(u + ratio) ** others, u))

    @property
    def _spread(self) -> float:
        """Variance of the indicator of one class."""
        share = 1 / len(self.data.classes)
        return share * (1 - share)


def planted(
    *,
    classes: int = 4,
    size: int = 16,
    channels: int = 1,
    train: int = 4000,
    test: int = 1000,
    robust_strength: float = 2.0,
    nonrobust_strength: float = 0.4,
    robust_noise: float = 0.7,
    nonrobust_noise: float = 0.08,
    pixel_noise: float = 0.01,
    seed: int = 0,
) -> Planted:
    """Make images with one robust and one non-robust pattern for each class.

    With the defaults, the non-robust patterns alone give 99.9 % clean accuracy and the robust ones 94.5 %; at l2 radius
    0.5, gamma is 0.22 for a robust feature and -1.83 for a non-robust one; a pixel is clipped with probability 2e-5.

    Parameters
    ----------
    classes : int
        At least two; all equally likely.
    size : int
        Height and width, a power of two.
    channels : int
        All alike, but for the noise on pixels.
    train, test : int
        Numbers of images, equally many of each class up to one.
    robust_strength, nonrobust_strength : float
        l2 length of the pattern in an image, pixel units; 0 leaves the kind useless.
    robust_noise, nonrobust_noise : float
        Standard deviation along each pattern, whatever the class.
    pixel_noise : float
        Standard deviation on each pixel; above 0.
    seed : int
        Decides the images; the patterns are always the same.

    Raises
    ------
    InputError
        If a number is out of range, the image is too small for the patterns, or more than one pixel in a thousand
        would be clipped.

    Examples
    --------
    >>> made = nb.planted(train=40, test=20)
    >>> made.data.classes
    ('0', '1', '2', '3')
    """
    check_count("classes", classes, low=2)
    for name, value in (("channels", channels), ("train", train), ("test", test)):
        check_count(name, value)
    if check_count("size", size, low=2) & (size - 1) or 2 * classes > size * size - 1:
        raise must("size", f"be a power of two, with room for 2 x {classes} patterns", size)
    dials = {"robust_strength": robust_strength, "nonrobust_strength": nonrobust_strength}
    dials |= {"robust_noise": robust_noise, "nonrobust_noise": nonrobust_noise}
    strength, along = torch.tensor([check_number(name, value) for name, value in dials.items()]).view(2, 2)
    check_number("pixel_noise", pixel_noise, open_low=True)
    model = _Model(_patterns(classes, size, channels), classes, strength, along, pixel_noise)
    if (clipped := model.clipped()) > MOST_CLIPPED:
        raise InputError(
            f"Strengths and noises must keep pixels in [0, 1]; a share of {clipped:.2g} would be clipped, "
            f"{MOST_CLIPPED:g} at most may be. Lower robust_noise or robust_strength, or give a larger 'size'."
        )
    data = Data("planted", model.sample(train, seed, "train"), model.sample(test, seed, "test"), class_names(classes))
    within = (model.along.square() + pixel_noise**2).sqrt()
    kinds = tuple(kind for kind in KINDS for _ in range(classes))
    return Planted(data, model.templates, model.codes, kinds, model.strength, within, clipped)


class _Model:
    """The distribution; the first half of the templates is robust, and template j codes class j modulo their number."""

    def __init__(self, templates: Tensor, classes: int, strength: Tensor, along: Tensor, pixel_noise: float) -> None:
        self.templates, self.pixel_noise = templates, pixel_noise
        self.codes = torch.arange(classes).repeat(2)
        self.strength = strength.repeat_interleave(classes)
        self.along = along.repeat_interleave(classes)
        self.signal = torch.nn.functional.one_hot(self.codes, classes).T * self.strength  # (class, template)

    def sample(self, count: int, seed: int, split: str) -> Images:
        classes = len(self.signal)
        draw = generator(seed, "planted", split)
        labels = (torch.arange(count) % classes)[torch.randperm(count, generator=draw)]
        along = self.signal[labels] + self.along * torch.randn(count, len(self.templates), generator=draw)
        pixels = self.pixel_noise * torch.randn(count, *self.templates.shape[1:], generator=draw)
        pixels += (along @ self.templates.flatten(1)).view_as(pixels)
        return Images(pixels.add_(0.5).clamp_(0, 1), labels)

    def clipped(self) -> float:
        """The probability that a pixel is outside [0, 1], over pixels and classes."""
        flat = self.templates.flatten(1).double()
        mean = self.signal.double() @ flat
        deviation = (self.along.double().square() @ flat.square() + self.pixel_noise**2).sqrt()
        below = torch.special.ndtr((-0.5 - mean) / deviation)
        above = torch.special.ndtr((mean - 0.5) / deviation)
        return float((below + above).mean())


def _patterns(classes: int, size: int, channels: int) -> Tensor:
    """The coarsest patterns that are not constant, and the finest: shape (2 classes, channel, height, width)."""
    walsh = _walsh(size)
    order = [(row, column) for row in range(size) for column in range(size)][1:]
    order.sort(key=lambda pair: (max(pair), sum(pair), pair))
    chosen = order[:classes] + order[-classes:]
    patterns = torch.stack([torch.outer(walsh[row], walsh[column]) for row, column in chosen])
    return (patterns / (size * math.sqrt(channels)))[:, None].expand(-1, channels, -1, -1).contiguous()


def _walsh(size: int) -> Tensor:
    """The Walsh functions of length `size`, +1 and -1, by number of changes of sign."""
    rows = torch.ones(1, 1)
    while len(rows) < size:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    return rows[(rows[:, 1:] != rows[:, :-1]).sum(1).argsort()]
