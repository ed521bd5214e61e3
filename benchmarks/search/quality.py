"""How good what came back is: measured here, in fp32 on the plain model, whatever the library says of itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.search.cases import Case
from benchmarks.search.libraries import madry
from benchmarks.search.loops import Normalised, Setting
from benchmarks.search.tasks import Task

SUCCESS, NORM, MATCHING, TRAINING = 0.02, 1.05, 1.02, 1.4
TOLERANCE = (
    f"A row is comparable where its success is within {SUCCESS:g}, or one image and a half, of the best row's; where "
    f"its mean perturbation is at most {NORM:g} times the shortest, for minimum norm; where its loss is at most "
    f"{MATCHING:g} times the given one, for feature matching; where its robust accuracy is within {TRAINING:g} / "
    "sqrt(images) of the best, two standard errors of a difference, for adversarial training; and where every image is "
    "valid: in [0, 1], and within the radius where there is one."
)


@torch.no_grad()
def measure(case: Case, task: Task, found: dict[str, Tensor], given_loss: float | None = None) -> dict[str, Any]:
    """Loss, success and mean norm of what a library found.

    `loss` is the mean cross-entropy of the label (of the target class, where there is one), or for matching
    ||g(x) - g(guide)|| / ||g(guide)||, or for training the robust cross-entropy of the trained model. `success` is the
    share of images classified otherwise (as the target), or with at most the given matching loss, or for training the
    robust accuracy. `norm` is the mean l2 norm of the perturbations that succeed, for matching of all.
    """
    tensors = case.tensors()
    if task.kind == "training":
        return robustness(case, task, found)
    model = case.network(tensors)
    images = found["images"]
    clean = tensors["images"][: len(images)]
    norms = (images - clean).flatten(1).norm(dim=1)
    if task.kind == "matching":
        losses = matching_losses(model, images, tensors["guides"][: len(images)])
        given = float(losses.mean()) if given_loss is None else given_loss
        right = (losses <= given).float().mean()
        return {"loss": float(losses.mean()), "success": float(right), "norm": float(norms.mean()), "valid": True}
    classes = tensors["targets" if task.targeted else "labels"][: len(images)]
    logits = torch.cat([model(part) for part in images.split(256)])
    success = (logits.argmax(1) == classes) == task.targeted
    return {
        "loss": float(cross_entropy(logits, classes)),
        "success": float(success.float().mean()),
        "norm": float(norms[success].mean()) if success.any() else None,
        "valid": valid(task, images, clean),
    }


def valid(task: Task, images: Tensor, clean: Tensor) -> bool:
    """Whether all images are in [0, 1], and within the radius where the task has one."""
    delta = (images - clean).flatten(1)
    size = delta.norm(dim=1) if task.norm == "l2" else delta.abs().amax(1)
    bounded = task.kind not in ("pgd", "targeted") or float(size.max()) <= task.eps * (1 + 1e-4)
    return bounded and float(images.min()) >= 0 and float(images.max()) <= 1


def matching_losses(model: Normalised, images: Tensor, guides: Tensor) -> Tensor:
    """||g(x) - g(guide)|| / ||g(guide)|| of every image."""

    def features(batch: Tensor) -> Tensor:
        return torch.cat([madry.features(model, (part - model.mean) / model.std) for part in batch.split(256)])

    target = features(guides)
    return (features(images) - target).norm(dim=1) / target.norm(dim=1)


def robustness(case: Case, task: Task, found: dict[str, Tensor]) -> dict[str, Any]:
    """Robust loss and accuracy of a trained model on the case's images, under PGD-20 inside the training radius."""
    tensors, model = case.tensors(), case.network(found)
    attack = Task("judge", "pgd", 20, task.norm, task.eps, 2.5 * task.eps / 20)
    setting = Setting(attack, model, 256, case.classes, (0, 0, 0), torch.device("cpu"))
    with torch.enable_grad():
        images = madry.pgd(setting)(tensors["images"], tensors["labels"])
    logits = model(images)
    accuracy = (logits.argmax(1) == tensors["labels"]).float().mean()
    loss = float(cross_entropy(logits, tensors["labels"]))
    return {"loss": loss, "success": float(accuracy), "norm": None, "valid": True}


def mark_comparable(case: Case, task: Task, rows: list[dict[str, Any]], given_loss: float | None) -> None:
    """Set `comparable` in every row that was judged; see `TOLERANCE`."""
    judged = [row for row in rows if row.get("loss") is not None]
    if not judged:
        return
    best = max(row["success"] for row in judged)
    shortest = min((row["norm"] for row in judged if row["norm"] and row["success"] >= best - SUCCESS), default=None)
    for row in judged:
        slack = (
            TRAINING / case.images**0.5 if task.kind == "training" else max(SUCCESS, 1.5 / (case.images * task.share))
        )
        good = row["success"] >= best - slack
        if task.kind == "matching":
            good = given_loss is not None and row["loss"] <= MATCHING * given_loss
        elif "minimum" in task.kind and shortest is not None:
            good = good and row["norm"] is not None and row["norm"] <= NORM * shortest
        row["comparable"] = good and row["valid"]
