"""What the sets beyond those of every study are built with: other classifiers, halves of the features, a cut-off."""

from __future__ import annotations

from notbugs.measure import usefulness
from notbugs.progress import Progress
from notbugs.study.declaration import Half, Ingredients
from notbugs.study.instruments.usefulness import searched_ball
from notbugs.study.runner import Runner
from notbugs.study.sets import BY_NAME, other_names
from notbugs.threat import check_radii

SORTED_ON = 1000
"""Training images, at most, on which features are sorted; a search goes from half of them."""


def ingredients(runner: Runner) -> dict[str, Ingredients]:
    """For each further set that the recipe asks for, what it is built with beside its source.

    By its name, and as `SetDeclaration.build` takes it. Classifiers are trained, and features sorted, first.
    """
    recipe, plans = runner.recipe, [BY_NAME[name] for name in runner.recipe.sets]
    named = other_names(recipe.sets, recipe.further.others)
    titles = {name: f"train {name} classifier" for name in named}
    others = [runner.train(name, runner.data.train, "standard", title=titles[name]) for name in named]
    of_half = halves(runner) if any(plan.half for plan in plans) else {}
    built_with: dict[str, Ingredients] = {plan.name: {} for plan in plans}
    for plan in plans:
        if plan.alone:
            built_with[plan.name]["others"] = others
        if plan.half:
            built_with[plan.name]["features"] = of_half[plan.half]
        if plan.band:
            built_with[plan.name]["cutoff"] = recipe.further.cutoff
    return built_with


def check_halves(runner: Runner) -> None:
    """Refuse a radius that features cannot be sorted with, before any training.

    Raises
    ------
    InputError
        If a set of one half of the features is asked for, and the radius reaches from black to white.
    """
    if any(BY_NAME[name].half for name in runner.recipe.sets):
        check_radii([searched_ball(runner)], runner.data.train.shape)


def halves(runner: Runner) -> dict[Half, list[int]]:
    """Numbers of the standard classifier's useful features: those of more robust usefulness, and as many of less.

    By training images, never by the test images that what they teach is measured on. Halves, and not those that are
    robust beyond doubt against those that are not: a standard classifier may have none of the first, and a set of a few
    features and one of many differ in more than robustness.
    """
    recipe, train = runner.recipe, runner.data.train
    settings, ball = recipe.instruments.usefulness, searched_ball(runner)

    def work(progress: Progress) -> dict[Half, list[int]]:
        seen = train.sample(SORTED_ON, runner.seed, "halves")
        features = usefulness(
            runner.classifier("standard"),
            train,
            seen,
            ball,
            classes=len(runner.data.classes),
            steps=settings.steps,
            images=min(settings.images, len(seen)),
            min_rho=settings.min_rho,
            seed=runner.seed,
            progress=progress,
        )
        best = features.best_class()
        gamma = features.gamma.gather(1, best[:, None])[:, 0]
        useful = [number for number, kind in enumerate(features.of_feature()) if kind != "useless"]
        order = sorted(useful or range(len(gamma)), key=lambda number: (-float(gamma[number]), number))
        size = max(1, len(order) // 2)
        return {"robust": sorted(order[:size]), "nonrobust": sorted(order[-size:])}

    return runner.stage("halves", "sort the features of standard, for halves", work, kind=dict[Half, list[int]])
