"""The schedule of LeRaC, the learning rate curriculum: pure functions of floats.

Source: Croitoru, Ristea, Ionescu and Sebe, "Learning Rate Curriculum", Eqs. 6-8. Throughout, eta_j is the
base rate of param group j, r_j = eta_j(0) / eta_j its initial ratio, and s_j(l) the factor on its rate at
step l.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

# Progress u = l/k -> share of the way from an initial ratio r to 1: s = r + (1 - r) share.
_SHARES: dict[str, Callable[[float], float]] = {
    "linear": lambda u: u,
    "logarithmic": lambda u: math.log1p((math.e - 1.0) * u),
    "cosine": lambda u: (1.0 - math.cos(math.pi * u)) / 2.0,
}
CURVES = ("exponential", *_SHARES, "decades")
CURVES_FROM_ZERO = ("linear", "cosine")


def lerac_factors(
    ratios: Sequence[float], step: int, total_iters: int, curve: str = "exponential", lowest: float = 1.0
) -> list[float]:
    """Return the factor s_j(`step`) on each group's rate: `ratios` at step 0, 1 from `total_iters` on.

    `step` and `total_iters` (k) count optimizer steps. "exponential" is the paper's rule (Eq. 8), "linear"
    its ablation (Table 5); "logarithmic" and "cosine" come from its review. "decades" is the authors' code:
    at each update event all rates are multiplied by 10, up to the base rate. The events divide k evenly and
    are as many as the lowest ratio needs to reach 1: 7 for 1e-7, so that `total_iters=7 * steps_per_epoch` is
    one event per epoch. `lowest` is the lowest ratio of the whole model, if `ratios` are of a part of it; only
    "decades" uses it.
    """
    if step >= total_iters:
        return [1.0] * len(ratios)
    if curve == "decades":
        # The margin keeps 1e-8 / float32(0.1), a hair below 1e-7, from asking for an eighth event.
        events = math.ceil(-math.log10(min([*ratios, lowest])) - 1e-6)
        gain = 10.0 ** (step * events // total_iters)
        return [min(1.0, ratio * gain) for ratio in ratios]
    progress = step / total_iters
    if curve == "exponential":  # Eq. 8, in which the base c cancels
        exponent = 1.0 - progress
        return [ratio**exponent for ratio in ratios]
    share = _SHARES[curve](progress)
    return [ratio + (1.0 - ratio) * share for ratio in ratios]


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


def depth_ranks(param_groups: Sequence[dict[str, Any]], depths: Iterable[int] | None = None) -> list[int]:
    """Return each group's rank, from 0 at the input, among the distinct values of the groups' `depth` key.

    With `depths`, the rank among these: those of the whole model, of which the groups may be a part. Groups of equal
    depth share a rank. Where no group has the key, they count in their order. Where only some have it, there is no
    saying where the others stand: ValueError.
    """
    missing = [j for j, group in enumerate(param_groups) if "depth" not in group]
    if missing and depths is not None:
        raise ValueError(f"param groups {missing} have no 'depth', so that their place among depths is unknown")
    if len(missing) == len(param_groups):
        return list(range(len(param_groups)))
    if missing:
        raise ValueError(f"param groups {missing} have no 'depth' and the others do: give it to all or none")
    found = [group["depth"] for group in param_groups]
    ranks = {depth: rank for rank, depth in enumerate(sorted({*(found if depths is None else depths)}))}
    if unknown := sorted({*found} - ranks.keys()):
        raise ValueError(f"depths, of which there are {len(ranks)}, lack those of param groups: {unknown}")
    return [ranks[depth] for depth in found]


def geometric_ratios(ranks: Sequence[int], lowest: float, highest: float = 1.0) -> list[float]:
    """Return initial ratios spaced geometrically in depth: `highest` at rank 0, `lowest` at the last rank.

    The paper gives only the two ends (Table 1); the spacing between them is this library's choice.
    """
    last = max(ranks) or 1  # a single layer is the first
    return [highest ** (1.0 - rank / last) * lowest ** (rank / last) for rank in ranks]


def initial_ratios(
    ranks: Sequence[int],
    number: int,
    base_lrs: Sequence[float],
    min_lr: float | None,
    max_lr: float | None,
    initial_lrs: Sequence[float] | None,
    curve: str,
) -> tuple[list[float], float]:
    """Return LeRaC's initial ratios of the groups, and the lowest of the model, which has `number` ranks.

    These are `initial_lrs`, or else lie between `max_lr`, the largest base rate if that is not given, and `min_lr`.
    Raises ValueError for rates that LeRaC refuses.
    """
    if initial_lrs is None:
        of_ranks = _ratios_between(min_lr, max_lr, max(base_lrs), range(number), curve)
        return [of_ranks[rank] for rank in ranks], of_ranks[-1]
    ratios = _ratios_of(initial_lrs, base_lrs, curve)
    return ratios, min(ratios)


def _ratios_between(
    min_lr: float | None, max_lr: float | None, base_lr: float, ranks: Sequence[int], curve: str
) -> list[float]:
    if min_lr is None:
        raise ValueError("give min_lr, the initial rate of the deepest layer, or initial_lrs, one per group")
    highest = 1.0 if max_lr is None else ratio_of("max_lr", max_lr, base_lr, curve)
    lowest = ratio_of("min_lr", min_lr, base_lr, curve)
    if lowest > highest:
        raise ValueError(f"min_lr={min_lr!r} exceeds max_lr={max_lr!r}: the input side gets the larger rate")
    return geometric_ratios(ranks, lowest, highest)


def _ratios_of(initial_lrs: Sequence[float], base_lrs: Sequence[float], curve: str) -> list[float]:
    if len(initial_lrs) != len(base_lrs):
        raise ValueError(f"initial_lrs has {len(initial_lrs)} rates for {len(base_lrs)} param groups")
    return [
        ratio_of(f"initial_lrs[{j}]", initial, base, curve)
        for j, (initial, base) in enumerate(zip(initial_lrs, base_lrs, strict=True))
    ]


def ratio_of(name: str, initial_lr: float, base_lr: float, curve: str) -> float:
    """Return the initial ratio of one rate, called `name` where it is refused by ValueError."""
    # NaN fails the comparison too. The margin is for a base rate that a float32 tensor `lr` has rounded down.
    if not 0.0 <= initial_lr <= base_lr * (1.0 + 1e-6):
        raise ValueError(f"{name}={initial_lr!r} must be neither negative nor above the base rate, {base_lr!r}")
    ratio = min(1.0, initial_lr / base_lr) if base_lr > 0.0 else 1.0  # a group frozen with lr=0 stays frozen
    if ratio == 0.0 and curve not in CURVES_FROM_ZERO:
        raise ValueError(
            f"{name}={initial_lr!r}: the {curve} curve cannot start at zero. Start at a small rate such as "
            f"1e-8, or choose {' or '.join(CURVES_FROM_ZERO)}"
        )
    return ratio


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


def fall_with_ratios(ratios: Sequence[float], lrs: Sequence[float], reference_lrs: Sequence[float]) -> bool:
    """Return whether the shares `lrs` / `reference_lrs` fall where `ratios` do, by more than 1%: LeRaC's mark.

    A factor that is common to all groups leaves no such mark. Groups of equal ratio have equal shares under LeRaC.
    """
    shares = [
        (ratio, lr / reference if reference else math.inf)
        for ratio, lr, reference in zip(ratios, lrs, reference_lrs, strict=True)
        if lr or reference
    ]
    rising = [share for _, share in sorted(shares, key=lambda pair: (pair[0], -pair[1]))]
    return len(rising) > 1 and rising[-1] > 1.01 * rising[0] and all(a <= b * (1.0 + 1e-6) for a, b in pairwise(rising))


def rise_with_depth(ratios: Sequence[float], ranks: Sequence[int]) -> bool:
    """Return whether a ratio is above one of a lower rank."""
    # Within one depth in falling order, so that only a rise from one depth to the next counts.
    by_depth = sorted(zip(ranks, ratios, strict=True), key=lambda pair: (pair[0], -pair[1]))
    return any(deeper > shallower for (_, shallower), (_, deeper) in pairwise(by_depth))


def refuse_another_step(ratios: Sequence[float], lrs: Sequence[float], expected: Sequence[float]) -> None:
    """Raise RuntimeError if the rates differ from those expected as the rates of one step do from another's."""
    if fall_with_ratios(ratios, lrs, expected) or fall_with_ratios(ratios, expected, lrs):
        lowest = min(range(len(ratios)), key=lambda j: ratios[j])
        raise RuntimeError(
            f"the param groups have the rates of another step: lr={lrs[lowest]:g} at the lowest initial ratio, where "
            f"LeRaC expects {expected[lowest]:g}. From a checkpoint, load LeRaC's state as well as the optimizer's. "
            "To start with an optimizer's state, load that before LeRaC is built."
        )


def take_up(
    lrs: Sequence[float], left_lrs: Sequence[float], full_lrs: Sequence[float], base_lrs: Sequence[float]
) -> list[float]:
    """Return the full rates, those without LeRaC, after others have changed the rates from `left_lrs` to `lrs`.

    A change is taken for a factor, which each group may have its own of, and goes over to the full rate. Where LeRaC's
    factor is 1 (or 0, of which there are no multiples), any change is fine.

    Raises:
        RuntimeError: if the changes are no factors. A rate that was set would go on from there to grow by up to
            1 / ratio. The signs: a full rate more than 1% above both what it was and the base rate; a factor more
            than ten times another; rates more than 1% apart that are now all equal, or all the same share of their
            full rates.
    """
    taken = [
        full if lr == left else lr if left in (full, 0.0) else full * (lr / left)
        for lr, left, full in zip(lrs, left_lrs, full_lrs, strict=True)
    ]
    if taken != [*full_lrs]:
        lowered = [j for j, left in enumerate(left_lrs) if left not in (full_lrs[j], 0.0)]
        for j in lowered:
            if not taken[j] <= 1.01 * max(full_lrs[j], base_lrs[j]):  # not so for NaN
                raise RuntimeError(
                    f"LeRaC left param group {j} at lr={left_lrs[j]:g} and finds lr={lrs[j]:g}. As a factor, that "
                    f"makes its base rate {taken[j]:g}. {_WHAT_TO_DO}"
                )
        factors = {j: lrs[j] / left for j, left in enumerate(left_lrs) if 0.0 not in (left, lrs[j])}
        if _spread(factors.values()) > 1.0 + 1e-6:  # else there is one, common to all
            of_lowered = {j: factors[j] for j in lowered if j in factors}
            _refuse_far_apart(of_lowered)
            for some in (factors, _changes(factors), _changes(of_lowered)):
                before, after, full = ([rates[j] for j in some] for rates in (left_lrs, lrs, full_lrs))
                _refuse_levelled("lr", before, after)
                _refuse_levelled("lr as a share of the full rate", _shares(before, full), _shares(after, full))
    return taken


STARTS_LOWERED = (
    "LeRaC was built on rates that are lower than the groups' `initial_lr`, the more so the deeper the group: those of "
    "an optimizer in the middle of a curriculum. To go on with that, load LeRaC's state, or give last_epoch. To start "
    "anew, set every lr to its initial_lr before LeRaC is built. If these are the base rates, confirm them before the "
    "first step: `with curriculum.base_rates(): pass`."
)
_WHAT_TO_DO = (
    "Set rates by hand, and step schedulers that set them (LambdaLR, OneCycleLR, ...), within "
    "`with curriculum.base_rates():`; or put such a scheduler after LeRaC in a SequentialLR. "
    "From a checkpoint, load LeRaC's state as well as the optimizer's."
)


def _refuse_far_apart(factors: dict[int, float]) -> None:
    if _spread(factors.values()) > 10.1:  # tenfold, and a margin for rounding
        least, most = min(factors, key=lambda j: factors[j]), max(factors, key=lambda j: factors[j])
        raise RuntimeError(
            f"LeRaC finds the lr of param group {least} times {factors[least]:g} and that of param group {most} times "
            f"{factors[most]:g}: too far apart for factors. {_WHAT_TO_DO}"
        )


def _refuse_levelled(kind: str, before: Sequence[float], after: Sequence[float]) -> None:
    if _spread(before) > 1.01 and _spread(after) < 1.0 + 1e-6:
        raise RuntimeError(
            f"LeRaC left {len(before)} param groups with {kind} from {min(before):g} to {max(before):g} and finds "
            f"{after[0]:g} in all: set, not multiplied. {_WHAT_TO_DO}"
        )


def _changes(factors: dict[int, float]) -> dict[int, float]:
    return {j: factor for j, factor in factors.items() if factor != 1.0}


def _shares(lrs: Sequence[float], full_lrs: Sequence[float]) -> list[float]:
    return [lr / full for lr, full in zip(lrs, full_lrs, strict=True)]


def _spread(values: Iterable[float]) -> float:
    values = [*values]
    return max(values, default=1.0) / min(values, default=1.0)
