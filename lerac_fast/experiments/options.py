"""Checks that the commands' options have in common."""

from collections.abc import Mapping
from typing import TypeVar

from lerac_fast.experiments.errors import ExperimentError

_T = TypeVar("_T")


def require_at_least(options: object, **lowest: int) -> None:
    """Checks attributes of `options` by their names.

    Raises:
        ValueError: one is lower than that; the message names it and its value.
    """
    for name, bound in lowest.items():
        value = getattr(options, name)
        if not value >= bound:  # nor is NaN
            raise ValueError(f"{name} must be at least {bound}, got {value}")


def find(registry: Mapping[str, _T], name: str, kind: str) -> _T:
    """What has this name.

    Raises:
        ExperimentError: nothing has; the message names the choices.
    """
    if name not in registry:
        raise ExperimentError(f"{kind} {name!r} is unknown: choose one of {', '.join(registry)}")
    return registry[name]
