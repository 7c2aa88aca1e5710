"""Checks that the commands' options have in common."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from lerac_experiments.errors import ExperimentError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Range:
    """Finite numbers between two bounds."""

    lowest: float
    highest: float = math.inf
    above: bool = False
    """Whether the lowest is not one of them."""
    below: bool = False
    """Whether the highest is not one of them."""

    def __contains__(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        high_enough = value > self.lowest if self.above else value >= self.lowest
        low_enough = value < self.highest if self.below else value <= self.highest
        return high_enough and low_enough

    def told(self, refused: float) -> str:
        """What a number must be that is not in it."""
        return str(self) if math.isfinite(refused) else f"finite and {self}"

    def __str__(self) -> str:
        lowest = f"{'above' if self.above else 'at least'} {self.lowest:g}"
        if self.highest == math.inf:
            return lowest
        return f"{lowest} and {'below' if self.below else 'at most'} {self.highest:g}"


POSITIVE = Range(0, above=True)
NOT_NEGATIVE = Range(0)


def require_at_least(options: object, **lowest: int) -> None:
    """Checks attributes of `options` by their names; None is none given.

    Raises:
        ValueError: one is lower than that; the message names it and its value.
    """
    for name, bound in lowest.items():
        value = getattr(options, name)
        if value is not None and not value >= bound:  # nor is NaN
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def find(registry: Mapping[str, _T], name: str, kind: str) -> _T:
    """What has this name.

    Raises:
        ExperimentError: nothing has; the message names the choices.
    """
    if name not in registry:
        raise ExperimentError(f"{kind} {name!r} is unknown: choose one of {', '.join(registry)}")
    return registry[name]


def shown(value: Any) -> str:
    """The value of an option, as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(map(shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
