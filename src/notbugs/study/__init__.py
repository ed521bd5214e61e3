"""A study: one run of the whole chain from a recipe; it leaves one folder. And its steps, one at a time."""

from typing import TYPE_CHECKING

from notbugs.lazily import lazily

if TYPE_CHECKING:
    from notbugs.study._status import Status, status, status_tables, studies_in
    from notbugs.study.jobs.audit import AuditFile, AuditJob, audit_labels, audit_one, audit_table
    from notbugs.study.jobs.compare import Comparison, compare
    from notbugs.study.jobs.transfer import TransferJob, transfer_one
    from notbugs.study.jobs.tune import TuneJob, tune
    from notbugs.study.pipeline import run, run_labels
    from notbugs.study.recipe import Recipe, Settings, folder_name, read_recipe, recipe_names
    from notbugs.study.repeated import with_seeds
    from notbugs.study.results import Results, json_schema, read_results
    from notbugs.study.single import (
        BuildJob,
        EvaluateJob,
        Kind,
        Line,
        TrainJob,
        VerifyJob,
        build_one,
        evaluate_one,
        train_one,
        verify_one,
    )

__all__ = [
    "AuditFile",
    "AuditJob",
    "BuildJob",
    "Comparison",
    "EvaluateJob",
    "Kind",
    "Line",
    "Recipe",
    "Results",
    "Settings",
    "Status",
    "TrainJob",
    "TransferJob",
    "TuneJob",
    "VerifyJob",
    "audit_labels",
    "audit_one",
    "audit_table",
    "build_one",
    "compare",
    "evaluate_one",
    "folder_name",
    "json_schema",
    "read_recipe",
    "read_results",
    "recipe_names",
    "run",
    "run_labels",
    "status",
    "status_tables",
    "studies_in",
    "train_one",
    "transfer_one",
    "tune",
    "verify_one",
    "with_seeds",
]

__getattr__ = lazily(
    __name__,
    {
        "_status": (
            "Status",
            "status",
            "status_tables",
            "studies_in",
        ),
        "jobs.audit": (
            "AuditFile",
            "AuditJob",
            "audit_labels",
            "audit_one",
            "audit_table",
        ),
        "jobs.compare": (
            "Comparison",
            "compare",
        ),
        "jobs.transfer": (
            "TransferJob",
            "transfer_one",
        ),
        "jobs.tune": (
            "TuneJob",
            "tune",
        ),
        "pipeline": (
            "run",
            "run_labels",
        ),
        "recipe": (
            "Recipe",
            "Settings",
            "folder_name",
            "read_recipe",
            "recipe_names",
        ),
        "repeated": ("with_seeds",),
        "results": (
            "Results",
            "json_schema",
            "read_results",
        ),
        "single": (
            "BuildJob",
            "EvaluateJob",
            "Kind",
            "Line",
            "TrainJob",
            "VerifyJob",
            "build_one",
            "evaluate_one",
            "train_one",
            "verify_one",
        ),
    },
)
