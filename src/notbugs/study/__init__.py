"""A study: one run of the whole chain from a recipe; it leaves one folder. And its steps, one at a time."""

from notbugs.study.auditing import AuditFile, AuditJob, audit_one, audit_table
from notbugs.study.chain import run
from notbugs.study.recipe import Recipe, Settings, folder_name, read_recipe, recipe_names
from notbugs.study.results import Results, json_schema
from notbugs.study.single import (
    BuildJob,
    EvaluateJob,
    Kind,
    TrainJob,
    VerifyJob,
    build_one,
    evaluate_one,
    train_one,
    verify_one,
)
from notbugs.study.transferring import TransferJob, transfer_one

__all__ = [
    "AuditFile",
    "AuditJob",
    "BuildJob",
    "EvaluateJob",
    "Kind",
    "Recipe",
    "Results",
    "Settings",
    "TrainJob",
    "TransferJob",
    "VerifyJob",
    "audit_one",
    "audit_table",
    "build_one",
    "evaluate_one",
    "folder_name",
    "json_schema",
    "read_recipe",
    "recipe_names",
    "run",
    "train_one",
    "transfer_one",
    "verify_one",
]
