"""Robust accuracy by several attacks, signs of masked gradients, and tests against the standard classifier."""

from __future__ import annotations

from collections.abc import Iterator

from notbugs.formats import ball, points
from notbugs.measure import PairedTest, Sign
from notbugs.report.sections import Cell, Section, Table
from notbugs.report.wording import quoted
from notbugs.study.instruments.trust import TrustedRow, TrustMeasured

TEXT = (
    "An attack gives an upper bound of robust accuracy, so several were run on the same images, and an image counts as "
    "robust only if none of them broke it: the last column. Where the stronger PGD and AutoAttack differ by more than "
    "a point, one of them was too weak. Signs of masked gradients say where attacks by gradients may be misled; that "
    "none is shown proves nothing."
)


def trust_section(measured: TrustMeasured) -> Section:
    """The attacks side by side, the paired tests, and every sign that is shown."""
    attack = measured.rows[0].pgd.attack
    where = ball(attack.norm, attack.eps) if attack else ""
    columns = ("classifier", "clean", "PGD", "stronger PGD", "AutoAttack", "all of them")
    attacks = Table(f"At {where}, {measured.n} test images.", columns, [_cells(row) for row in measured.rows])
    tests = Table(
        "Against the standard classifier on the same images: difference in points, with its interval, and p of "
        "McNemar's exact test.",
        ("classifier", "clean", "p", "robust", "p"),
        [[row.classifier, *_test(row.clean), *_test(row.robust)] for row in measured.paired],
    )
    return Section(
        name="trust",
        title="Robust accuracy, by stronger attacks",
        short="Attacks compared",
        text=TEXT,
        reading=list(_reading(measured)),
        tables=[attacks, *([tests] if tests.rows else [])],
    )


def _cells(row: TrustedRow) -> list[Cell]:
    other = row.autoattack.share if row.autoattack else None
    return [row.classifier, row.clean.share, row.pgd.share, row.strong.share, other, row.union]


def _test(test: PairedTest) -> list[Cell]:
    return [points(test.difference, test.low, test.high), f"{test.p_value:.2g}"]


def _reading(measured: TrustMeasured) -> Iterator[str]:
    """A sentence for every mark, and one for every classifier with signs, or one that there are none."""
    for row in measured.rows:
        if row.marked and row.autoattack:
            yield (
                f"{row.classifier}: the stronger PGD leaves {quoted(row.strong.share)} and AutoAttack "
                f"{quoted(row.autoattack.share)}, more than a point apart."
            )
    shown = {row.classifier: [sign for sign in row.signs if sign.shown] for row in measured.rows}
    for name, signs in shown.items():
        if signs:
            yield f"{name} shows signs of masked gradients: {', '.join(_named(sign) for sign in signs)}."
    if not any(shown.values()):
        yield f"No classifier shows a sign of masked gradients ({measured.masking_n} images, eight signs)."


def _named(sign: Sign) -> str:
    return f"{sign.name} ({sign.rule})"
