"""The three claims: what the page says of results that agree, disagree and leave it open, above and below alike."""

from __future__ import annotations

import re

import pytest

from notbugs.measure import Difference
from notbugs.report.accuracies import study_accuracies
from notbugs.report.cautions import cautions
from notbugs.report.claims import ENDINGS, claims
from notbugs.report.page import render
from notbugs.study.instruments.controls import ControlRow, ControlsResult, controls_section
from notbugs.study.instruments.set_radius import SetRadiusInstrument, SetRadiusResult, SetRadiusRow
from notbugs.study.learned import unlearned
from notbugs.study.results import Measured, Results
from tests import fakes
from tests.fakes import row

pytestmark = pytest.mark.whole


def sentences(rows, measured=None):
    results = Results(study=fakes.study(), rows=rows, sets=[], instruments=measured or Measured())
    return claims(study_accuracies(results), results, 10)


def run(d=0.3, d_r=0.6, d_nr=0.7, nr_robust=0.1, det=0.4):
    return [
        row("D", d, eps=0.25, n=1000), row("D_R", d_r, eps=0.25, n=1000), row("D_NR", d_nr, n=1000),
        row("D_NR", nr_robust, eps=0.25, n=1000), row("D_rand", 0.5, n=1000), row("D_det", det, n=1000),
    ]  # fmt: skip


def controlled(value, low, high, of="D_rand", control=0.2):
    some = fakes.proportion(control, 1000)
    beside = ControlRow(
        of=of, variant="leakage", name=f"{of}_leakage", source="standard", start="images", norm="l2", eps=1.0, n=1000,
        success=some, untouched=some, clean=some, relabelled=some, beyond=Difference(value=value, low=low, high=high),
    )  # fmt: skip
    made = ControlsResult(chance=0.1, weak=[], seed=0, test_set="test", rows=[beside])
    return Measured(controls=made)


def test_a_set_that_its_classifier_did_not_learn_has_no_part_in_the_verdict():
    sets = [fakes.properties(name, success_source=fakes.proportion(0.8, 1000)) for name in ("D_rand", "D_det")]
    low, high = fakes.proportion(0.3, 1000), fakes.proportion(0.7, 1000)
    fits = {"D_rand": high, "D_det": low, "D_rand_leakage": high, "standard": low}

    def judged(fits, rows, *, which=2, **measured):
        info = fakes.study().model_copy(update={"fits": fits})
        results = Results(study=info, rows=rows, sets=sets, **measured)
        return claims(study_accuracies(results), results, 10)[which], results

    assert judged({}, run(det=0.1))[0].verdict == "open"
    assert judged({}, run(det=0.05))[0].verdict == "disagrees"
    claim, results = judged(fits, run(det=0.05))
    assert claim.verdict == "open"
    assert "D_det, which its classifier did not learn (it gives 30.0" in claim.short
    assert set(unlearned(results)) == {"D_det"}
    assert "trained on D_det gives 30.0" in " ".join(cautions(results, study_accuracies(results)))
    sets.append(fakes.properties("D_NR", success_source=fakes.proportion(0.9, 1000)))
    judgements = [judged({"D_NR": one}, run(), which=1)[0].verdict for one in (high, low)]
    assert judgements == ["agrees", "open"]
    beside = controlled(0.2, 0.1, 0.3)
    assert judged(fits, run(det=0.05), instruments=beside)[0].verdict == "agrees"
    assert judged(fits | {"D_rand_leakage": low}, run(det=0.05), instruments=beside)[0].verdict == "open"


def test_a_section_compares_no_set_that_was_not_learned():
    some, low = fakes.proportion(0.8, 1000), fakes.proportion(0.1, 1000)
    (control,) = controlled(0.2, 0.1, 0.3).controls.rows
    itself = control.model_copy(update={"variant": "itself", "name": "D_rand", "beyond": None, "success": some})
    for ours, theirs, words in (
        (some, some, "teaches more than"),
        (low, some, "not learned"),
        (some, low, "not learned"),
    ):
        rows = [itself.model_copy(update={"fits": ours}), control.model_copy(update={"fits": theirs})]
        made = ControlsResult(chance=0.1, weak=[], seed=0, test_set="test", rows=rows)
        assert words in controls_section(made).reading[0]
        other = control.model_copy(update={"variant": "robust_source", "beyond": None, "success": some, "fits": theirs})
        made = made.model_copy(update={"rows": [rows[0], other]})
        assert ("not learned" in controls_section(made).reading[0]) == (words == "not learned")
    difference = Difference.of(low, some)
    row = SetRadiusRow(of="D_rand", eps=0.5, repeat=1, n=9, success=some, clean=low, leakage=some, beyond=difference)
    for fits, words in ((None, "less than its control"), (some, "less than its control"), (low, "was not learned")):
        of_radius = SetRadiusResult(norm="l2", seed=0, test_set="test", rows=[row.model_copy(update={"fits": fits})])
        assert words in SetRadiusInstrument().section(of_radius, ()).reading[0]
    of_radius = of_radius.model_copy(update={"rows": [row.model_copy(update={"fits": some, "leakage_fits": low})]})
    (said,) = SetRadiusInstrument().section(of_radius, ()).reading
    assert said.startswith("The leakage control of D_rand at l2 0.5 was not learned")


def test_of_unequal_classes_the_balanced_accuracy_of_a_control_is_held_against_chance():
    """One that names the largest class everywhere teaches nothing, however often it is right."""
    measured = controlled(0.2, 0.1, 0.3, of="D_det", control=0.25)
    (control,) = measured.controls.rows
    ours = row("D_det", 0.4, n=1000).model_copy(update={"balanced": fakes.proportion(0.3, 1000)})
    for balanced, verdict in ((fakes.proportion(0.1, 1000), "agrees"), (fakes.proportion(0.25, 1000), "partly")):
        rows = [control.model_copy(update={"balanced": balanced})]
        controls = Measured(controls=measured.controls.model_copy(update={"rows": rows}))
        results = Results(study=fakes.study(), rows=[*run()[:-1], ours], sets=[], instruments=controls)
        found = next(c for c in claims(study_accuracies(results), results, 10) if "D_det" in c.short)
        assert found.verdict == verdict


def test_three_sentences_that_agree_each_with_its_numbers():
    found = sentences(run())
    assert [sentence.verdict for sentence in found] == ["agrees"] * 3
    robust, other, relabelled = (f"{sentence.short} {sentence.ending}." for sentence in found)
    assert robust == (
        "Standard training on D_R is more robust than on D: at l2 radius 0.25 its robust accuracy is "
        "60.0\u00a0% (56.9 to 63.0), against 30.0\u00a0% (27.2 to 32.9), which agrees with the paper."
    )
    assert "70.0\u00a0% (67.1 to 72.8), above chance (10\u00a0%), and is less robust than D_R: 10.0" in other
    assert "50.0\u00a0% (46.9 to 53.1) after training on D_rand; 40.0" in relabelled
    assert "after training on D_det; each above chance (10\u00a0%); this" in relabelled
    assert all(text.count(". ") == 0 for text in (robust, other, relabelled))


def looked(d_r="target", d_nr="start", **changes):
    """Claims of a run whose sets were compared with their starts and targets, and whose perturbations have a size."""
    sets = [
        fakes.properties("D_R", resemblance=fakes.resemblance(d_r)),
        fakes.properties("D_NR", resemblance=fakes.resemblance(d_nr)),
        fakes.properties("D_rand"),
        fakes.properties("D_det", perturbation=fakes.perturbation(**changes)),
    ]
    results = Results(study=fakes.study(), rows=run(), sets=sets)
    return claims(study_accuracies(results), results, 10)


def test_the_last_claim_says_whom_matched_images_look_like():
    found = looked()
    assert [claim.verdict for claim in found] == ["agrees"] * 4
    assert found[3].short.startswith(
        "Images of D_R resemble their targets (nearer to the target than to the start: 80.0\u00a0% (77.3 to 82.5) in "
        "pixels, 90.0"
    )
    assert "images of D_NR resemble their starts (nearer to the target than to the start: 10.0" in found[3].short


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        (
            {"d_r": "start"},
            "disagrees",
            "Images of D_R resemble their starts (nearer to the target than to the start: 10.0",
        ),
        (
            {"d_r": "unclear"},
            "open",
            "Images of D_R do not clearly resemble their targets (nearer to the target than to the start: 10.0",
        ),
        ({"d_nr": "target"}, "disagrees", "images of D_NR resemble their targets"),
    ],
)
def test_the_page_says_first_where_images_do_not_look_like_the_papers(changes, verdict, words):
    first, *others = looked(**changes)
    assert (first.verdict, len(others)) == (verdict, 3)
    assert words in first.short


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"to_nearest": 0.5}, "it is large, so the label may fit what the image now shows."),
        ({"noticed": 0.1}, "changes 10.0\u00a0% of the pixels noticeably; it is short, but visible."),
        (
            {"to_nearest": 0.8, "noticed": 0.4},
            "0.8 times as long as the way to the nearest training image of the new class",
        ),
    ],
)
def test_only_small_perturbations_agree_with_the_paper(changes, words):
    claim = looked(**changes)[2]
    assert claim.verdict == "visibly"
    assert claim.conclusion == "This agrees with the paper, but its perturbations are not small."
    assert words in claim.more
    small = looked(to_nearest=0.49, noticed=0.09)[2]
    assert small.verdict == "agrees"
    assert "changes 9.0\u00a0% of the pixels noticeably; it is small." in small.more


@pytest.mark.parametrize(
    ("changes", "place", "verdict", "words"),
    [
        ({"d": 0.7}, 0, "disagrees", "is less robust than on D"),
        ({"d": 0.59}, 0, "open", "intervals that overlap"),
        ({"d_nr": 0.05}, 1, "disagrees", "below chance"),
        ({"d_nr": 0.1}, 1, "open", "cannot be told from chance"),
        ({"nr_robust": 0.8}, 1, "disagrees", "is more robust than D_R"),
        ({"nr_robust": 0.6}, 1, "open", "is as robust, as far as intervals can tell, as D_R"),
        ({"det": 0.02}, 2, "disagrees", "below chance"),
        ({"det": 0.1}, 2, "open", "cannot be told from chance"),
    ],
)
def test_the_numbers_decide(changes, place, verdict, words):
    found = sentences(run(**changes))
    assert len(found) == 3
    assert found[place].verdict == verdict
    assert words in found[place].short
    assert {sentence.verdict for sentence in found if sentence is not found[place]} == {"agrees"}


@pytest.mark.parametrize(
    ("beyond", "verdict", "words"),
    [
        (
            (0.05, 0.02, 0.08),
            "agrees",
            "(2.0 to 8.0) beyond its leakage control's 20.0\u00a0% (17.6 to 22.6)",
        ),
        ((0.01, -0.02, 0.04), "open", "cannot be told from its leakage control: 1.0 points (-2.0 to 4.0)"),
        ((-0.05, -0.08, -0.02), "open", "5.0 points (2.0 to 8.0) below its leakage control"),
    ],
)
def test_a_leakage_control_decides_what_d_rand_says(beyond, verdict, words):
    alone = [measured for measured in run() if measured.train_set == "D_rand"]
    for rows in (run(), alone):
        found = sentences(rows, controlled(*beyond))[2]
        assert found.verdict == verdict
        assert words in found.short
        assert words in found.text


@pytest.mark.parametrize(("accuracy", "verdict", "level"), [(0.07, "disagrees", "below"), (0.105, "open", "from")])
def test_a_set_that_teaches_nothing_is_no_evidence_whatever_its_control_teaches(accuracy, verdict, level):
    rows = [row("D_rand", accuracy, n=1000)]
    found = sentences(rows, controlled(0.05, 0.03, 0.07, control=0.02))[2]
    assert found.verdict == verdict
    assert f"{level} chance (10\u00a0%), and 5.0 points" in found.short


@pytest.mark.parametrize(
    ("control", "difference", "verdict"),
    [(0.31, (0.19, 0.15, 0.23), "partly"), (0.29, (0.21, 0.17, 0.25), "agrees"), (0.48, (0.02, -0.02, 0.06), "open")],
)
def test_agrees_in_part_where_the_control_reaches_more_than_half_of_what_is_above_chance(control, difference, verdict):
    found = sentences(run(), controlled(*difference, control=control))[2]
    assert found.verdict == verdict
    assert ("only in part" in found.ending) == (verdict == "partly")


def test_sets_beyond_their_controls_are_named_where_others_are_not():
    """What a control explains of one set is nothing against another that goes beyond its own."""
    beyond = {"D_rand": (-0.05, -0.08, -0.02), "D_rand_other": (0.3, 0.25, 0.35), "D_det": (0.01, -0.02, 0.04)}
    rows = [controlled(*points, of=of, control=0.2).controls.rows[0] for of, points in beyond.items()]
    measured = controlled(0, 0, 0).controls.model_copy(update={"rows": rows})
    found = sentences([row(name, 0.5, n=1000) for name in beyond], Measured(controls=measured))
    (claim,) = (one for one in found if one.about == "Relabelled images")
    assert (claim.verdict, claim.of) == ("some", ("D_rand_other",))
    assert claim.conclusion == "This agrees with the paper for D_rand_other alone."
    below = [row("D_rand_other", 0.5, n=1000), row("D_det", 0.05, n=1000)]
    (claim,) = (one for one in sentences(below, Measured(controls=measured)) if one.about == "Relabelled images")
    assert claim.verdict == "disagrees"


def test_sets_that_no_control_is_told_from_are_not_said_to_be_told_from_it():
    """Two sets with the same numbers, as few images make them."""
    rows = [controlled(0.02, -0.05, 0.09, of=of, control=0.1).controls.rows[0] for of in ("D_rand_other", "D_det")]
    both = controlled(0.02, -0.05, 0.09).controls.model_copy(update={"rows": rows})
    found = sentences([row("D_rand_other", 0.11, n=1000), row("D_det", 0.11, n=1000)], Measured(controls=both))
    (claim,) = (one for one in found if one.about == "Relabelled images")
    assert claim.short.count("cannot be told from its leakage control") == 2
    assert claim.short.count("cannot be told from chance") == 2


def test_d_rand_without_a_control_leaves_it_open():
    assert [sentence.verdict for sentence in sentences([row("D_rand", 0.9)])] == ["open"] * 3


def test_the_page_says_how_a_set_is_told_from_its_control():
    """By the difference, whose interval may leave out 0 where those of the two overlap."""
    results = Results(study=fakes.study(), rows=run(), sets=[], instruments=controlled(0.03, 0.01, 0.06, control=0.47))
    page = render(results, None, None)
    assert "a set and its control where the interval of their difference leaves out 0" in page
    assert "cannot be told from its leakage control" not in page


def test_of_unequal_classes_the_difference_is_of_balanced_accuracies():
    some, beside = fakes.proportion(0.2, 1000), controlled(0.3, 0.2, 0.4)
    beyond = Difference(value=0.3, low=0.2, high=0.4, paired=True, score="balanced accuracy")
    row = beside.controls.rows[0].model_copy(update={"beyond": beyond, "balanced": some, "clean": run()[0].share})
    made = Measured(controls=beside.controls.model_copy(update={"rows": [row]}))
    results = Results(study=fakes.study(), rows=run(), sets=[], instruments=made)
    claim = claims(study_accuracies(results), results, 10)[2]
    assert "30.0 points (20.0 to 40.0) beyond its leakage control's balanced 20.0" in claim.short
    section = controls_section(made.controls)
    assert section.reading == ["D_rand teaches more than its leakage control, by 30.0 (20.0 to 40.0) points of "
                               "balanced accuracy."]  # fmt: skip
    assert "Beyond: balanced accuracy of the set less that of its control" in section.tables[0].caption


def test_what_was_not_measured_is_said():
    found = sentences([row("D_NR", 0.7)])
    assert len(found) == 3
    assert found[0].short.startswith("This run did not measure standard training on D_R")
    assert "relabelled" in found[2].short
    assert sentences([row("D", 0.9)]) == []


VERDICTS = {
    "agrees": (run(), controlled(0.3, 0.25, 0.35)),
    "partly": (run(), controlled(0.19, 0.15, 0.23, control=0.31)),
    "open": (run(d=0.59, d_nr=0.1, det=0.1), controlled(0.02, -0.02, 0.06, control=0.48)),
    "disagrees": (run(d=0.7, nr_robust=0.8, det=0.02), controlled(-0.05, -0.08, -0.02, control=0.55)),
    "alone": ([row("D_rand", 0.9)], None),
}


@pytest.mark.parametrize("wanted", VERDICTS)
def test_no_page_can_contradict_itself(wanted):
    """Whatever the page says of a claim, above, below and in the section of the controls, is one verdict."""
    rows, measured = VERDICTS[wanted]
    made = Results(study=fakes.study(), rows=rows, sets=[], instruments=measured or Measured())
    page = re.sub(r"\s+", " ", render(made, None))
    above = re.findall(r'<li class="(\w+)">(.*?) <strong>(.*?)</strong>\.</li>', page)
    below = re.findall(r'<li class="claim (\w+)"> <h3>(.*?)</h3>.*?<strong>This (.*?)\.</strong>', page)
    found = {claim.about: claim for claim in claims(study_accuracies(made), made, 10)}
    assert [(verdict, ENDINGS[verdict]) for verdict, _, _ in above] == [(c.verdict, c.ending) for c in found.values()]
    assert [ending for _, _, ending in above] == [claim.ending for claim in found.values()]
    assert below == [(claim.verdict, about, claim.ending) for about, claim in found.items() if claim.text]
    said = re.compile("(?:agrees with|disagrees with|contradicts) the paper")
    ours = [claim.ending for claim in found.values()] + [claim.ending for claim in found.values() if claim.text]
    assert said.findall(page) == [phrase for ending in ours for phrase in said.findall(ending)]
    assert ("Its accuracy alone is no evidence for non-robust features" in page) == (
        found["Relabelled images"].verdict in ("open", "disagrees") and measured is not None
    )
    if measured:
        assert found["Relabelled images"].verdict == wanted
