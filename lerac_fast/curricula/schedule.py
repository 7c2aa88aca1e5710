"""The schedule of LeRaC, the learning rate curriculum: pure functions of floats.

Source: Croitoru, Ristea, Ionescu and Sebe, "Learning Rate Curriculum", Eqs. 6-8. Throughout, eta_j is the
base rate of param group j, r_j = eta_j(0) / eta_j its initial ratio, and s_j(l) the factor on its rate at
step l.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

# (initial ratio r, progress u = l/k) -> factor s, rising from r at u = 0 to 1 at u = 1.
_SMOOTH_CURVES: dict[str, Callable[[float, float], float]] = {
    "exponential": lambda r, u: r ** (1.0 - u),  # Eq. 8, in which the base c cancels
    "linear": lambda r, u: r + (1.0 - r) * u,
    "logarithmic": lambda r, u: r + (1.0 - r) * math.log1p((math.e - 1.0) * u),
    "cosine": lambda r, u: r + (1.0 - r) * (1.0 - math.cos(math.pi * u)) / 2.0,
}
CURVES = (*_SMOOTH_CURVES, "decades")
CURVES_FROM_ZERO = ("linear", "cosine")


def lerac_factors(ratios: Sequence[float], step: int, total_iters: int, curve: str = "exponential") -> list[float]:
    """Return the factor s_j(`step`) on each group's rate: `ratios` at step 0, 1 from `total_iters` on.

    `step` and `total_iters` (k) count optimizer steps. "exponential" is the paper's rule (Eq. 8), "linear"
    its ablation (Table 5); "logarithmic" and "cosine" come from its review. "decades" is the authors' code:
    at each update event all rates are multiplied by 10, up to the base rate. The events divide k evenly and
    are as many as the lowest ratio needs to reach 1: 7 for 1e-7, so that `total_iters=7 * steps_per_epoch` is
    one event per epoch.
    """
    if step >= total_iters:
        return [1.0] * len(ratios)
    if curve == "decades":
        # The margin keeps 1e-8 / float32(0.1), a hair below 1e-7, from asking for an eighth event.
        events = math.ceil(-math.log10(min(ratios)) - 1e-6)
        gain = 10.0 ** (step * events // total_iters)
        return [min(1.0, ratio * gain) for ratio in ratios]
    factor = _SMOOTH_CURVES[curve]
    progress = step / total_iters
    return [factor(ratio, progress) for ratio in ratios]


def rate_table(
    base_lrs: Sequence[float],
    ratios: Sequence[float],
    steps: Iterable[int],
    total_iters: int,
    curve: str = "exponential",
) -> list[list[float]]:
    """Return the learning rates eta_j(l): one row per step l of `steps`, one column per group j."""
    rows = (lerac_factors(ratios, step, total_iters, curve) for step in steps)
    return [[base * factor for base, factor in zip(base_lrs, row, strict=True)] for row in rows]


def depth_ranks(param_groups: Sequence[dict[str, Any]]) -> list[int]:
    """Return each group's rank, from 0 at the input, among the distinct values of the groups' `depth` key.

    Groups of equal depth share a rank. Where no group has the key, they count in their order. Where only some
    have it, there is no saying where the others stand: ValueError.
    """
    missing = [j for j, group in enumerate(param_groups) if "depth" not in group]
    if len(missing) == len(param_groups):
        return list(range(len(param_groups)))
    if missing:
        raise ValueError(f"param groups {missing} have no 'depth' and the others do: give it to all or none")
    ranks = {depth: rank for rank, depth in enumerate(sorted({group["depth"] for group in param_groups}))}
    return [ranks[group["depth"]] for group in param_groups]


def geometric_ratios(ranks: Sequence[int], lowest: float, highest: float = 1.0) -> list[float]:
    """Return initial ratios spaced geometrically in depth: `highest` at rank 0, `lowest` at the last rank.

    The paper gives only the two ends (Table 1); the spacing between them is this library's choice.
    """
    last = max(ranks) or 1  # a single layer is the first
    return [highest ** (1.0 - rank / last) * lowest ** (rank / last) for rank in ranks]


def decade_layout(base_lr: float, blocks: int, floor: float, head_lr: float) -> list[float]:
    """Return the initial rates of the authors' code for ResNet-18: one decade less per block, down to a floor.

    There is one rate for the stem (`base_lr`), one for each of `blocks` residual blocks and one for the head, to
    be given as `initial_lrs` to the LeRaC of an optimizer with those groups, in this order
    (`layer_groups(model, by="resnet")`). For ResNet-18, `blocks` is 8 and `base_lr` 0.1; `(floor, head_lr)` is
    (1e-6, 1e-4) on CIFAR-10, (1e-7, 1e-6) on CIFAR-100 and (1e-8, 1e-8) on Tiny ImageNet. On the CIFAR sets
    the head starts above the last block, which goes against Eq. 6, and LeRaC warns of it.

    This is the layout of no other network: with another number of blocks it is a guess of the caller's, and the
    paper's own rates for other networks are two ends (`min_lr` and the base rate).
    """
    return [base_lr, *(max(base_lr / 10**block, floor) for block in range(1, blocks + 1)), head_lr]
