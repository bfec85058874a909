"""What tune.html says of the recipe, of trials, and of figures below chance."""

import base64
import re
from pathlib import Path

import pytest

from rayapp.storage.store import LocalStore
from rayapp.tune.results import best_trial
from rayapp.tune.search_plan import make_search_plan
from rayapp.tune.settings import RECIPE
from rayapp.tune.study import FIGURES_ATTR, START_ATTR, NumberedSampler, open_study
from rayapp.tune.tune_page import page
from tests.tune.conftest import Made


def made(training: Made, folder: Path, values: list[float]) -> str:
    """The page of a search with these values, the recipe's first."""
    settings = training()
    search_plan = make_search_plan(settings)
    store = LocalStore(str(folder / "study"))
    with open_study(store, search_plan.goal, NumberedSampler(settings)) as journal:
        for at, value in enumerate(values):
            trial = journal.study.ask()
            search_plan.space.draw(trial)
            trial.set_user_attr(START_ATTR, None if at else RECIPE)
            trial.set_user_attr(FIGURES_ATTR, {"held_out_roc_auc": value, "nll": 0.7})
            journal.study.tell(trial, value)
        best = best_trial(journal, search_plan.goal)
        assert best is not None
        return page(settings, search_plan, journal, best, None).html()


def figures(html: str) -> list[str]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]+)"', html)
    return [f"{alt}\n{base64.b64decode(svg).decode()}" for svg, alt in found]


def words(svg: str) -> list[str]:
    """Text of a drawing, which matplotlib leaves as comments beside its outlines."""
    return re.findall(r"<!-- (.+?) -->", svg)


def test_a_recipe_of_ones_own_is_not_called_published(training: Made, tmp_path: Path) -> None:
    html = made(training, tmp_path, [0.6, 0.7])
    assert "ublished" not in html
    assert "recipe: 0.6000" in html
    history = next(one for one in figures(html) if "the best is" in one)
    assert "recipe" in words(history)


@pytest.mark.parametrize(
    ("recipe", "changes", "name"),
    [
        ("imaginet-selfcon", {}, "published recipe"),
        ("imaginet-selfcon", {"seed": 1}, "recipe"),
        ("demo", {}, "recipe"),
    ],
)
def test_only_a_published_recipe_is_called_so(
    training: Made, recipe: str, changes: dict[str, int], name: str
) -> None:
    assert training(recipe=recipe, train=changes).recipe_name == name


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_the_axis_of_trials_has_whole_numbers(training: Made, tmp_path: Path, count: int) -> None:
    html = made(training, tmp_path, [0.6 + 0.01 * k for k in range(count)])
    history = next(one for one in figures(html) if "the best is" in one)
    named = words(history[: history.index("<!-- trial -->")])
    assert named[0] == "0"
    assert all(re.fullmatch(r"\d+", text) for text in named), named


def test_an_area_below_one_half_is_remarked(training: Made, tmp_path: Path) -> None:
    said = "below 0.5: scores run against the labels"
    below = made(training, tmp_path / "below", [0.3, 0.41])
    summary = re.search(r'<p class="summary">(.*?)</p>', below)
    assert summary is not None
    assert said in summary[1]
    assert f"recipe: 0.3000; {said}" in below
    assert said not in made(training, tmp_path / "above", [0.3, 0.55])
