"""What a reader must know before trusting the findings of a run, and what they mean for medical images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from notbugs.formats import NORMS, percent
from notbugs.measure.statistics import compare
from notbugs.report.accuracies import StudyAccuracies, quoted
from notbugs.study.learned import unlearned
from notbugs.study.results import Results, Row, SetProperties

FEW_IMAGES = 1000
LOW_SUCCESS = 0.9
NEAR_TARGET = 0.3


def cautions(results: Results, accuracies: StudyAccuracies) -> list[str]:
    """One sentence for everything in the results that limits what they show."""
    recipe = results.study.recipe
    notes = [*_of_measurement(accuracies, bool(recipe.get("scaled_down"))), *_of_networks(results.rows)]
    if recipe.get("group_pattern") or recipe.get("group_column"):
        notes.append(
            "Images of one group are much alike, and intervals take test images as independent: where these have "
            "groups, too, intervals are too narrow."
        )
    notes += _of_classifiers(accuracies)
    for name, share in unlearned(results).items():
        notes.append(
            f"The classifier trained on {name} gives {quoted(share)} of its images their label: it did not learn this "
            "set, so its accuracy says nothing of what the set holds. Train it longer, or otherwise, "
            "with [trained_on] and [architecture_on]."
        )
    for properties in results.sets:
        notes += _of_set(properties)
    return notes


def _of_measurement(accuracies: StudyAccuracies, scaled_down: bool) -> list[str]:
    notes = []
    if scaled_down:
        notes.append("There was no accelerator: this is the recipe's small form, of fewer images and smaller networks.")
    if accuracies.test_set != "test":
        notes.append(
            "Accuracies are on images held out of the training split, not on the test set: it is they that are called "
            "test images here."
        )
    if accuracies.norm not in (None, "l2"):
        notes.append("The paper measured robust accuracy under l2 only; this run did not measure it.")
    rows = [row for m in accuracies.members for row in (m.clean, *m.robust.values()) if row]
    if any(row.balanced for row in rows):
        notes.append("Classes differ much in size: balanced accuracy stands beside accuracy.")
    fewest = min((row.n for row in rows), default=FEW_IMAGES)
    if fewest < FEW_IMAGES:
        widest = max((row for row in rows if row.n == fewest), key=lambda row: row.high - row.low)
        notes.append(
            f"There are only {fewest} test images: an interval is up to {percent(widest.high - widest.low)} points "
            "wide, and small differences cannot be seen."
        )
    return notes


def _of_networks(rows: Sequence[Row]) -> Iterator[str]:
    """A sentence for each network other than the standard classifier's."""
    networks = {row.classifier: row.architecture for row in rows}
    own = networks.get("standard")
    for other in dict.fromkeys(networks.values()):
        if own and other != own:
            trained = ", ".join(name for name, network in networks.items() if network == other)
            yield (
                f"Classifiers trained on {trained} have another network than those trained on D ({other}; {own}): the "
                "network has a part in what they learn, and in how robust they are."
            )


def _of_classifiers(accuracies: StudyAccuracies) -> list[str]:
    robust, standard = accuracies.get("D", "adversarial"), accuracies.get("D")
    radius = accuracies.radius
    if not robust or not standard or radius not in robust.robust or radius not in standard.robust:
        return []
    a, b = robust.robust[radius], standard.robust[radius]
    if compare(a, b) == "higher":
        return []
    return [
        f"The robust classifier cannot be shown to be more robust than the standard one at "
        f"{NORMS.get(accuracies.norm or '', '')} radius {radius:g}, {quoted(a)} against {quoted(b)}, so D_R may not "
        "hold more robust features than D."
    ]


def _of_set(properties: SetProperties) -> list[str]:
    notes = []
    name, success = properties.name, properties.success_source_changed or properties.success_source
    if properties.kind == "relabelled" and success.value < LOW_SUCCESS:
        notes.append(
            f"{name}: the search reached the label it trains with for only {quoted(success)} of the images"
            f"{' whose label changed' if properties.success_source_changed else ''}; the others teach a label that "
            "the source does not see."
        )
    if compare(properties.success_8bit, properties.success_source) == "lower":
        notes.append(f"{name}: success on the source falls to {quoted(properties.success_8bit)} in 8-bit files.")
    distance = properties.distance_to_target
    if distance and distance.median < NEAR_TARGET:
        notes.append(
            f"{name} nearly reproduces its target images: the median image keeps only {percent(distance.median)} % "
            f"of the distance between start and target, so {name} is close to D itself."
        )
    return notes


MEDICAL = {"pneumonia": "chest x-rays"}
"""What the images are, by the name of the data."""


def meaning(accuracies: StudyAccuracies, data: str) -> list[str]:
    """Sentences that follow from the accuracies; none for other data, or where the run lacks the numbers.

    Parameters
    ----------
    accuracies : StudyAccuracies
        The accuracies.
    data : str
        The name of the data.
    """
    standard, radius = accuracies.get("D"), accuracies.radius
    if data not in MEDICAL or not standard or not standard.clean or radius not in standard.robust:
        return []
    at = f"{NORMS[accuracies.norm or 'l2']} radius {radius:g}"
    notes = [
        f"The standard classifier of {MEDICAL[data]} is right on {quoted(standard.clean)} of the test images, and on "
        f"{quoted(standard.robust[radius])} of them when an attacker may change them within {at}. Its accuracy does "
        "not say how much of it rests on features whose sign such changes flip."
    ]
    alone = accuracies.get("D_NR")
    if alone and alone.clean:
        notes.append(
            f"Trained on D_NR, whose images were made from other x-rays, a new classifier reaches "
            f"{quoted(alone.clean)}. As far as that is near the standard classifier's accuracy, and they still look "
            "like those x-rays, features whose sign small changes flip suffice for it, and a test on untouched images "
            "cannot tell a model that relies on them from one that does not. Features of this kind may come from a "
            "scanner or from the processing of its images as well as from the disease; on images from elsewhere they "
            "need not be the same."
        )
    robust = accuracies.get("D", "adversarial")
    if robust and robust.clean and radius in robust.robust:
        notes.append(
            f"Adversarial training keeps {quoted(robust.robust[radius])} at that radius, and is right on "
            f"{quoted(robust.clean)} of untouched images: what it costs, and what it protects."
        )
    notes.append(
        "Images of 28x28 pixels and a network this small say nothing about a clinical system, and nothing here is for "
        "a diagnosis. The command notbugs audit asks the same of a model of your own."
    )
    return notes
