"""torchvision on a torch without CUDA, where PyPI's wheel does not load its compiled half."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

_LIBRARY: list[torch.library.Library] = []


def torchvision() -> ModuleType:
    """The module, with the two operators declared that its import wants, if it wants them."""
    try:
        import torchvision
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        _LIBRARY.append(torch.library.Library("torchvision", "DEF"))  # kept, or the operators go again
        for name in ("nms", "qnms"):
            _LIBRARY[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision
