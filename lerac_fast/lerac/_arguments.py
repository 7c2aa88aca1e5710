"""From what LeRaC's constructor is given to initial ratios: what it refuses, and what it warns of."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from lerac_fast.lerac._rates import base_rates_of
from lerac_fast.lerac.schedule import CURVES, depth_ranks, initial_ratios, rise_with_depth


def checked_ratios(
    groups: Sequence[dict[str, Any]],
    total_iters: int,
    min_lr: float | None,
    max_lr: float | None,
    initial_lrs: Sequence[float] | None,
    depths: Iterable[int] | None,
    curve: str,
) -> tuple[list[float], float]:
    """Return the initial ratios of the groups, and the lowest of the model. Only the constructor may call it."""
    if not isinstance(total_iters, int) or isinstance(total_iters, bool) or total_iters < 0:
        raise ValueError(f"total_iters={total_iters!r} must be an integer >= 0, in optimizer steps")
    if curve not in CURVES:
        raise ValueError(f"curve={curve!r} is unknown: choose one of {', '.join(CURVES)}")
    base_lrs = base_rates_of(groups)
    depths = None if depths is None else {*depths}
    ranks = depth_ranks(groups, depths)
    number = 1 + max(ranks) if depths is None else len(depths)
    if initial_lrs is not None and (min_lr, max_lr, depths) != (None, None, None):
        raise ValueError(f"give initial_lrs, or min_lr={min_lr!r} with max_lr={max_lr!r} and depths, not both")
    ratios, lowest = initial_ratios(ranks, number, base_lrs, min_lr, max_lr, initial_lrs, curve)
    if initial_lrs is not None and rise_with_depth(ratios, ranks):
        _warn(
            "initial_lrs rise with depth, against Eq. 6 of the paper: LeRaC gives the input side the larger "
            "rate, the reverse of layer-wise learning rate decay."
        )
    if total_iters > 0 and lowest == 1.0:
        _warn(
            f"LeRaC has nothing to do: {len(ranks)} param group(s) at {number} distinct depth(s) "
            "start at their base rates. It needs a param group per layer and a rate below theirs."
        )
    return ratios, lowest


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, stacklevel=4)  # where LeRaC is made
