"""The search space: dimensions as data, checked before the first trial, drawn in their order."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from rayapp.config.errors import UserError
from rayapp.tune.settings import RECIPE, Dimension

Values = dict[str, Any]
Fields = Callable[[str], Any]  # path → the recipe's value; UserError where there is none


@dataclass(frozen=True)
class Space:
    """Dimensions by path; one with a condition comes after what it depends on."""

    dimensions: Mapping[str, Dimension]

    def draw(self, trial: Trial) -> Values:
        """The values of a trial, each suggested by the study's sampler."""
        values: Values = {}
        for path, dimension in self.dimensions.items():
            if _holds(dimension, values):
                values[path] = self._suggested(trial, path)
        return values

    def _suggested(self, trial: Trial, path: str) -> Any:
        found = self.distribution(path)
        if isinstance(found, CategoricalDistribution):
            return self.decoded(path, trial.suggest_categorical(path, found.choices))
        if isinstance(found, IntDistribution):
            return trial.suggest_int(path, found.low, found.high, step=found.step)
        assert isinstance(found, FloatDistribution)
        return trial.suggest_float(path, found.low, found.high, log=found.log)

    def distribution(self, path: str) -> BaseDistribution:
        """What Optuna draws a dimension from."""
        one = self.dimensions[path]
        if one.uniform:
            return FloatDistribution(*one.uniform)
        if one.log_uniform:
            return FloatDistribution(*one.log_uniform, log=True)
        if one.integer:
            low, high = one.integer
            return IntDistribution(low, low + (high - low) // one.step * one.step, step=one.step)
        return CategoricalDistribution([_label(choice) for choice in one.choice or ()])

    def decoded(self, path: str, stored: Any) -> Any:
        """The value behind what Optuna stores, which knows no lists."""
        choices = self.dimensions[path].choice
        if choices is None:
            return stored
        return next(choice for choice in choices if _label(choice) == stored)

    def values(self, stored: Mapping[str, Any]) -> Values:
        """The values of a trial of the past."""
        return {path: self.decoded(path, value) for path, value in stored.items()}

    def point(self, fields: Fields, changes: Mapping[str, Any], name: str) -> Values:
        """A starting point as Optuna stores it: the recipe with changes, on every dimension.

        Raises:
            UserError: a change to what is not searched, or a value outside its dimension.
        """
        for path in changes:
            if path not in self.dimensions:
                raise UserError(f"start {name}: {path} is not in the space")
        values: Values = {}
        for path, dimension in self.dimensions.items():
            if not _holds(dimension, values):
                continue
            value = changes.get(path, fields(path))
            if not _inside(self.distribution(path), value):
                whose = f"start {name}'s" if path in changes else "the recipe's own"
                raise UserError(f"space {path}: {whose} value {value} is not in it; widen it")
            values[path] = value
        return {path: _label(value) for path, value in values.items()}

    def probes(self, fields: Fields) -> list[Values]:
        """Value sets that between them touch both ends and every choice of each dimension.

        Raises:
            UserError: a path that names no field, or a condition on what does not come before.
        """
        found: list[Values] = []
        for path, dimension in self.dimensions.items():
            try:
                fields(path)
            except UserError as error:
                raise UserError(f"space {error}") from None
            self._check_condition(path)
            condition = {parent: wanted[0] for parent, wanted in dimension.when.items()}
            ends = dimension.choice or self._ends(path)
            found += [condition | {path: end} for end in ends]
        return found

    def _ends(self, path: str) -> tuple[Any, Any]:
        found = self.distribution(path)
        assert isinstance(found, FloatDistribution | IntDistribution)
        return found.low, found.high

    def _check_condition(self, path: str) -> None:
        before = list(self.dimensions)[: list(self.dimensions).index(path)]
        for parent, wanted in self.dimensions[path].when.items():
            if parent not in before:
                raise UserError(f"space {path}: when names {parent}, which must stand before it")
            for value in wanted:
                if not _inside(self.distribution(parent), value):
                    raise UserError(f"space {path}: when {parent} is {value}, which it never is")

    def starting_points(
        self, fields: Fields, start: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Values]:
        """Every starting point by name, the recipe itself first; equal ones once."""
        points: dict[str, Values] = {}
        for name, changes in {RECIPE: {}, **start}.items():
            point = self.point(fields, changes, name)
            if point not in points.values():
                points[name] = point
        return points


def _holds(dimension: Dimension, values: Mapping[str, Any]) -> bool:
    return all(
        parent in values and any(_same(values[parent], value) for value in wanted)
        for parent, wanted in dimension.when.items()
    )


def _same(first: Any, second: Any) -> bool:
    return bool(_label(first) == _label(second)) and isinstance(first, bool) == isinstance(
        second, bool
    )


def _inside(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return any(_same(choice, value) for choice in distribution.choices)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(distribution, IntDistribution) and value != int(value):
        return False
    return bool(distribution._contains(distribution.to_internal_repr(value)))


def _label(value: Any) -> Any:
    """What Optuna stores of a choice: lists and mappings as JSON."""
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else json.dumps(value)
