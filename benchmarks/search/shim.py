"""torchvision's Python part beside any torch: secml-torch and adv-lib import it, and attack nothing with it.

The wheel on the package index is the CUDA build; beside a CPU torch its operators do not load, and the import fails at
two that it wants to describe.
"""

from __future__ import annotations

import torch

_kept: list[torch.library.Library] = []  # a library's definitions go when it does


def make_torchvision_importable() -> None:
    """Define torchvision's missing operators, once, where importing it fails for want of them."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
