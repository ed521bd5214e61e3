"""What the numbers of a study of medical images mean for a classifier of such images: a few sentences for its page."""

from __future__ import annotations

from notbugs.formats import NORMS
from notbugs.report.lineup import Lineup
from notbugs.report.wording import quoted

MEDICAL = {"pneumonia": "chest x-rays"}
"""What the images are, by the name of the data."""


def meaning(lineup: Lineup, data: str) -> list[str]:
    """Sentences that follow from the accuracies; none for other data, or where the run lacks the numbers.

    Parameters
    ----------
    lineup : Lineup
        The accuracies.
    data : str
        The name of the data.
    """
    standard, radius = lineup.get("D"), lineup.radius
    if data not in MEDICAL or not standard or not standard.clean or radius not in standard.robust:
        return []
    at = f"{NORMS[lineup.norm or 'l2']} radius {radius:g}"
    found = [
        f"The standard classifier of {MEDICAL[data]} is right on {quoted(standard.clean)} of the test images, and on "
        f"{quoted(standard.robust[radius])} of them when an attacker may change them within {at}. Its accuracy does "
        "not say how much of it rests on features whose sign such changes flip."
    ]
    alone = lineup.get("D_NR")
    if alone and alone.clean:
        found.append(
            f"Trained on D_NR, whose images keep the look of another patient's x-ray, a new classifier reaches "
            f"{quoted(alone.clean)}. As far as that is near the standard classifier's accuracy, features whose sign "
            "small changes flip suffice for it, and a test on untouched images cannot tell a model that relies on them "
            "from one that does not. Features of this kind may come from a scanner or from the processing of its "
            "images as well as from the disease; on images from elsewhere they need not be the same."
        )
    robust = lineup.get("D", "adversarial")
    if robust and robust.clean and radius in robust.robust:
        found.append(
            f"Adversarial training keeps {quoted(robust.robust[radius])} at that radius, and is right on "
            f"{quoted(robust.clean)} of untouched images: what it costs, and what it protects."
        )
    found.append(
        "Images of 28x28 pixels and a network this small say nothing about a clinical system, and nothing here is for "
        "a diagnosis. The command notbugs audit asks the same of a model of your own."
    )
    return found
