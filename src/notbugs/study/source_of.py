"""The data of a classifier that is named as a part of a study: those of the study, unless others are given."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from notbugs.parts import model_file, study_of
from notbugs.study.recipe import read_recipe
from notbugs.study.sections import READING, Source

Job = TypeVar("Job", bound=Source)
SHARED = ("data", *READING, "label", "train_images", "test_images", "heldout", "seed")
"""Settings that decide which images a study has."""


def of_study(job: Job, *given: str | Path | None) -> Job:
    """The job with the data of the study that one of `given` is a part of; as it is where data are given.

    Parameters
    ----------
    job : Source
        What is asked. Settings that are given stay as they are.
    *given : str or Path
        Classifiers, of which one may be named as STUDY:NAME.
    """
    for one in given:
        if one:
            model_file(one)  # refuses a name that the study does not have
    studies = [study for one in given if one and (study := study_of(one))]
    if not studies or (job.data is not None and "data" in job.model_fields_set):
        return job
    recipe = read_recipe(studies[0] / "recipe.toml", is_run=False)
    taken = {name: getattr(recipe, name) for name in SHARED if name not in job.model_fields_set}
    return job.model_copy(update=taken)
