"""Where curriculum by smoothing acts: which modules of a model, and along which axes of their output."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from torch import nn

from lerac_fast._wrappers import named_modules, unwrap
from lerac_fast.cbs._hooks import CONVOLUTIONS, Site
from lerac_fast.cbs._hooks import Tokens as Tokens

Pattern: TypeAlias = str | re.Pattern[str]
Where: TypeAlias = (
    Pattern | Sequence[Pattern] | Mapping[Pattern, Tokens | None] | Callable[[str, nn.Module], bool | Tokens | None]
)


def find_sites(model: nn.Module, where: Where | None = None) -> list[Site]:
    """The modules of `model` that `where` selects, as `CBS` describes it; each once, in order of registration.

    Warns if nothing is selected, or if some patterns match nothing.
    """
    names = named_modules(unwrap(model))
    sites: dict[nn.Module, Site] = {}
    select = _selection(where, names)
    for name, module in names.items():
        selected = select(name, module)
        if selected and module not in sites:
            axes = selected if isinstance(selected, Tokens) else _spatial_axes(name, module)
            sites[module] = Site(name, module, axes)
    if not sites:
        reason = (
            "it has no convolution wider than 1" if where is None else f"where={where!r} selects none of its modules"
        )
        warnings.warn(
            f"CBS has nothing to smooth in {type(unwrap(model)).__name__}: {reason}", UserWarning, stacklevel=3
        )
    return list(sites.values())


_Select: TypeAlias = Callable[[str, nn.Module], bool | Tokens]


def _selection(where: Where | None, names: Mapping[str, nn.Module]) -> _Select:
    if where is None:
        return lambda _, module: isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and max(module.kernel_size) > 1
    if isinstance(where, str | re.Pattern):
        where = {where: None}
    elif isinstance(where, Sequence):
        where = dict.fromkeys(where)
    if isinstance(where, Mapping):
        return _selection_by_name(where, names)
    if callable(where):
        return _selection_by_predicate(where)
    raise TypeError(f"where must be patterns, a mapping from patterns or a function, not {where!r}")


def _selection_by_name(where: Mapping[Pattern, Tokens | None], names: Mapping[str, nn.Module]) -> _Select:
    patterns: dict[re.Pattern[str], bool | Tokens] = {}
    for pattern, axes in where.items():
        if not isinstance(pattern, str | re.Pattern):
            raise TypeError(f"where: {pattern!r} is not a pattern for the names of modules")
        if not (axes is None or isinstance(axes, Tokens)):
            raise TypeError(f"where[{pattern!r}] must be Tokens or None, not {axes!r}")
        try:
            patterns[re.compile(pattern)] = axes or True
        except re.error as error:
            raise ValueError(f"where={pattern!r} is not a regular expression: {error}") from error
    useless = [pattern.pattern for pattern in patterns if not any(map(pattern.fullmatch, names))]
    if 0 < len(useless) < len(patterns):
        warnings.warn(f"where: no module's name matches {', '.join(map(repr, useless))}", UserWarning, stacklevel=5)
    return lambda name, _: next((axes for pattern, axes in patterns.items() if pattern.fullmatch(name)), False)


def _selection_by_predicate(where: Callable[[str, nn.Module], bool | Tokens | None]) -> _Select:
    def select(name: str, module: nn.Module) -> bool | Tokens:
        answer = where(name, module)
        if not (answer is None or isinstance(answer, bool | Tokens)):
            raise TypeError(f"where({name!r}, module) must return a bool, Tokens or None, not {answer!r}")
        return answer or False

    return select


def _spatial_axes(name: str, module: nn.Module) -> tuple[int, ...]:
    for kind, count in CONVOLUTIONS.items():
        if isinstance(module, kind):
            return tuple(range(-count, 0))  # from the end, as the batch axis may be missing
    raise ValueError(
        f"where selects {name!r}, a {type(module).__name__} and no convolution: say with Tokens along which axes its "
        "output is to be smoothed, or narrow the selection"
    )
