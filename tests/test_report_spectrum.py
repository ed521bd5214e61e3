"""The figure of features: every mark tells the feature that it stands for."""

from __future__ import annotations

import re
from pathlib import Path

from markupsafe import escape

from notbugs.formats import class_name
from notbugs.report.section_charts import spectrum
from notbugs.study.instruments.usefulness import usefulness_section
from notbugs.study.results import Measured

STUDY = Path(__file__).parent / "data" / "instruments.json"


def test_every_mark_tells_its_own_feature():
    found = Measured.model_validate_json(STUDY.read_text(encoding="utf-8")).usefulness
    for of in found.classifiers.values():
        drawn = spectrum(of.spectrum, "l2 0.5")
        marks = re.findall(r'translate\(([\d.]+),([\d.]+)\)"[^>]*><title>([^<]*)</title></path>', drawn)
        assert len(marks) == len(of.spectrum)
        by_feature = {row.feature: row for row in of.spectrum}
        placed = []
        for x, y, title in marks:
            row = by_feature.pop(int(re.match(r"feature (\d+), class", title)[1]))
            assert title.endswith(f"γ {row.gamma:.2f} ({row.gamma_low:.2f} to {row.gamma_high:.2f})")
            assert f"class {row.best_class}: " in title
            assert f"ρ {row.rho:.2f} ({row.rho_low:.2f} to {row.rho_high:.2f})" in title
            placed.append((float(x), abs(row.rho), float(y), row.gamma))
        assert [at[1] for at in sorted(placed)] == sorted(at[1] for at in placed)
        assert [at[3] for at in sorted(placed, key=lambda at: -at[2])] == sorted(at[3] for at in placed)


def test_classes_have_their_names_in_the_figure_and_in_every_table():
    found = Measured.model_validate_json(STUDY.read_text(encoding="utf-8")).usefulness
    names = [*"abcdefgh", "<i>", "&"]
    section = usefulness_section(found, names)
    for figure, of in zip(section.figures, found.classifiers.values(), strict=True):
        for row in of.spectrum:
            assert f"<title>feature {row.feature}, class {escape(names[row.best_class])}: " in figure.drawings[0]
    classes = {str(row.feature): names[row.best_class] for row in found.classifiers["standard"].spectrum}
    few, every = section.tables[1:3]
    assert (few.folded, len(few.rows), len(every.rows)) == ("", 10, len(classes))
    assert every.folded == f"All {len(classes)} features of the standard classifier, as in its figure"
    assert {row[0]: row[1] for row in every.rows} == classes
    assert class_name(["only one"], 3) == "3"
