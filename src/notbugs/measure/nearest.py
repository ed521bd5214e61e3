"""For an image, the nearest image of a class: how far classes are apart, in pixels."""

from __future__ import annotations

import math

import torch

from notbugs.data import Images
from notbugs.shapes import Batch, Labels, PerSample
from notbugs.threat import l2_norm

CHUNK_BYTES = 2**26
"""Of images that are compared at once."""


@torch.no_grad()
def nearest_of_class(starts: Batch, labels: Labels, images: Images) -> tuple[PerSample, Labels]:
    """The l2 distance from every start to the nearest image of its class in `labels`, and that image's number.

    Exact, over all images of the class, as many at a time as fit in 64 MiB.

    Parameters
    ----------
    starts : Tensor
        Images in [0, 1], shape (batch, channel, height, width).
    labels : Tensor
        The class looked for, for every start, shape (batch,).
    images : Images
        Where it is looked for.

    Returns
    -------
    tuple of Tensor and Tensor
        Distances in pixel units, infinite where `images` have none of that class; numbers of images.

    Examples
    --------
    >>> distances, numbers = nb.measure.nearest_of_class(inputs, labels, data.train)
    """
    centre = starts.mean(0, keepdim=True)  # squares of smaller numbers lose less to rounding
    ours = (starts - centre).flatten(1)
    square, wanted = torch.full((len(starts),), math.inf), torch.zeros(len(starts), dtype=torch.int64)
    step = max(1, CHUNK_BYTES // (4 * math.prod(images.shape)))
    for first in range(0, len(images), step):
        pixels, classes = images.batch(slice(first, first + step))
        theirs = (pixels - centre).flatten(1)
        found = theirs.square().sum(1) - 2 * ours @ theirs.T  # the start's own square is the same for all
        found = found.masked_fill(classes[None] != labels[:, None], math.inf)
        least, place = found.min(1)
        closer = least < square
        square, wanted = torch.where(closer, least, square), torch.where(closer, place + first, wanted)
    distance = torch.cat(
        [
            l2_norm(start - images.batch(number)[0])
            for start, number in zip(starts.split(250), wanted.split(250), strict=True)
        ]
    )
    return torch.where(square.isfinite(), distance, math.inf), wanted
