"""The arithmetic of MadryLab/robustness 1.2.1, which does not import on a current torch: what its loop computes.

References are to the files of that release. Per step of a search: one forward of the whole network, the gradient of the
*mean* loss (attacker.py:190-204); the best iterate kept by boolean indexing (177-186, 213); a step of fixed length
and the projection (215-216; attack_steps.py:116-128 for l2, 89-99 for l-inf). After the last step one more forward with
its graph, to score the last iterate (224). The result goes through the network once more before it is handed back
(326), in the mode the model was in: that is the forward that adversarial training trains on (train.py, `_model_loop`).

Feature matching hands in a loss of its own, which gets the network, not its output (155-158): every step runs the
network twice, and throws the first result away. The notebooks do not keep the best iterate; nor does this.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.search.loops import Batchwise, Normalised, Setting, batches, batchwise, learning_rate, sgd

Loss = Callable[[Tensor, Tensor], Tensor]
FREE = 1000.0  # the radius with which its notebooks leave feature matching free


def versions() -> dict[str, str]:
    """The release transcribed."""
    return {"robustness (transcribed)": "1.2.1.post2"}


class L2Step:
    """attack_steps.py:109-136."""

    def __init__(self, origin: Tensor, eps: float, size: float) -> None:
        self.origin, self.eps, self.size = origin, eps, size

    def step(self, images: Tensor, gradient: Tensor) -> Tensor:
        """One step of fixed l2 length along the gradient."""
        norms = torch.norm(gradient.reshape(len(gradient), -1), dim=1).view(-1, 1, 1, 1)
        return images + gradient / (norms + 1e-10) * self.size

    def project(self, images: Tensor) -> Tensor:
        """Into the ball, then into [0, 1]."""
        delta = (images - self.origin).renorm(p=2, dim=0, maxnorm=self.eps)
        return torch.clamp(self.origin + delta, 0, 1)


class LinfStep(L2Step):
    """attack_steps.py:82-105."""

    def step(self, images: Tensor, gradient: Tensor) -> Tensor:
        """One step along the sign of the gradient."""
        return images + torch.sign(gradient) * self.size

    def project(self, images: Tensor) -> Tensor:
        """Into the cube, then into [0, 1]."""
        delta = torch.clamp(images - self.origin, -self.eps, self.eps)
        return torch.clamp(delta + self.origin, 0, 1)


def attacker(loss: Loss, step: L2Step, target: Tensor, steps: int, sign: int, *, use_best: bool) -> Tensor:
    """attacker.py:163-227, from the clean images."""
    images, best, best_loss = step.origin, None, None

    def keep(losses: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        if best is None or best_loss is None:
            return images.clone().detach(), losses.clone().detach()
        better = sign * best_loss < sign * losses
        best[better] = images[better].clone().detach()
        best_loss[better] = losses[better]
        return best, best_loss

    for _ in range(steps):
        images = images.clone().detach().requires_grad_(True)
        losses = loss(images, target)
        (gradient,) = torch.autograd.grad(sign * torch.mean(losses), [images])
        with torch.no_grad():
            if use_best:
                best, best_loss = keep(losses, images)
            images = step.project(step.step(images, gradient))
    if not use_best:
        return images.clone().detach()
    losses = loss(images, target)  # outside no_grad there, so with its graph
    return keep(losses.detach(), images)[0]


def classification(model: Normalised) -> Loss:
    """attacker.py:149-160 without a custom loss."""
    return lambda images, target: cross_entropy(model(images), target, reduction="none")


def inversion(model: Normalised) -> Loss:
    """attacker.py:149-158 with the notebooks' `inversion_loss`: the network twice, relative distance of features."""

    def loss(images: Tensor, target: Tensor) -> Tensor:
        normalised = (images - model.mean) / model.std
        model.network(normalised)
        return torch.norm(features(model, normalised) - target, dim=1) / torch.norm(target, dim=1)

    return loss


def features(model: Normalised, normalised: Tensor) -> Tensor:
    """The whole network's forward, of which the inputs of its last layer are kept (`with_latent=True`)."""
    *body, head = model.network
    for layer in body:
        normalised = layer(normalised)
    head(normalised)
    return normalised


def step_class(setting: Setting) -> type[L2Step]:
    """The step of the task's norm."""
    return L2Step if setting.task.norm == "l2" else LinfStep


def find(setting: Setting) -> Batchwise:
    """One batch's search for a task with labels or targets, `use_best` on, as by default."""
    task, loss = setting.task, classification(setting.model)
    sign = -1 if task.targeted else 1

    def attack(images: Tensor, target: Tensor) -> Tensor:
        step = step_class(setting)(images, task.eps, task.step_size)
        return attacker(loss, step, target, task.steps, sign, use_best=True)

    return attack


def pgd(setting: Setting) -> Batchwise:
    """`AttackerModel.forward(..., make_adv=True)`: the search, and the result through the network once more (326)."""
    search = find(setting)

    def attack(images: Tensor, target: Tensor) -> Tensor:
        found = search(images, target)
        setting.model(found)
        return found

    return batchwise(setting, attack)


def matching(setting: Setting) -> Batchwise:
    """The same with the inversion loss, targeted, free, and without `use_best`."""
    task, model = setting.task, setting.model

    def attack(images: Tensor, guides: Tensor) -> Tensor:
        with torch.no_grad():
            target = features(model, (guides - model.mean) / model.std)
        step = L2Step(images, FREE, task.step_size)
        found = attacker(inversion(model), step, target, task.steps, -1, use_best=False)
        model(found)
        return found

    return batchwise(setting, attack)


def training(setting: Setting) -> Batchwise:
    """train.py, `_model_loop`: the last forward of the attacked model, in training mode, is the one trained on."""
    model, search, optimizer = setting.model, find(setting), sgd(setting)

    def epoch(images: Tensor, labels: Tensor) -> Tensor:
        count = -(-len(images) // setting.batch)
        for number, (clean, truth) in enumerate(batches(setting, images, labels)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(setting.task, number, count)
            model.eval()
            found = search(clean, truth)
            model.train()
            loss = cross_entropy(model(found), truth)
            loss.item()  # for its meter
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        return images

    return epoch


ATTACKS = {
    "pgd": {"PGD": pgd},
    "targeted": {"PGD": pgd},
    "matching": {"inversion": matching},
    "training": {"PGD": training},
}
