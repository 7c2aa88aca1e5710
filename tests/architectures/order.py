"""Whether the depths of groups agree with what is known of a model without `layer_groups`."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

Groups = Sequence[Mapping[str, Any]]


def check_partition(model: nn.Module, groups: Groups) -> Iterable[str]:
    """Every trainable parameter is in exactly one group, and no two groups have one name."""
    placed = [id(p) for group in groups for p in group["params"]]
    trainable = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    if len(placed) != len(set(placed)):
        yield "a parameter is in two groups"
    if missing := [name for i, name in trainable.items() if i not in set(placed)]:
        yield f"in no group: {', '.join(missing[:3])}"
    if set(placed) - trainable.keys():
        yield "a group holds what is not a trainable parameter of the model"
    if len({group["name"] for group in groups}) != len(groups):
        yield "two groups have one name"


def check_unused(unused: set[str], gradients: Iterable[str]) -> Iterable[str]:
    if wrong := sorted(unused & set(gradients)):
        yield f"said to be unused, but has a gradient: {', '.join(wrong[:3])}"


def check_dependencies(
    model: nn.Module, groups: Groups, before: Mapping[str, set[str]], unused: set[str]
) -> Iterable[str]:
    """Weights that all uses of a weight depend on lie less deep than it, unless they share its layer."""
    names = {id(p): name for name, p in model.named_parameters()}
    group_of = {names[id(p)]: group for group in groups for p in group["params"] if id(p) in names}
    weights = {n for n, p in model.named_parameters() if sum(size > 1 for size in p.shape) > 1} - unused
    for name in sorted(weights & before.keys() & group_of.keys()):
        for earlier in sorted(before[name] & weights & group_of.keys()):
            here, there = group_of[name], group_of[earlier]
            if here is not there and there["depth"] >= here["depth"]:
                yield f"{earlier} (depth {there['depth']}) runs before {name} (depth {here['depth']})"
                break


def without_unused(model: nn.Module, groups: Groups, unused: set[str]) -> Groups:
    parameters = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in unused}
    return [group for group in groups if not all(id(p) in parameters for p in group["params"])]


def check_blocks(groups: Groups, blocks: str) -> Iterable[str]:
    """Of the blocks of one stack, the depth increases with the number."""
    stacks: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for group in groups:
        name = group["name"]
        if re.fullmatch(blocks, name):
            number = re.search(r"\d+$", name)
            assert number is not None, f"{blocks!r} must end with the number of a block, not match {name!r}"
            stacks[name[: number.start()]].append((int(number[0]), group["depth"]))
    for stack, members in stacks.items():
        ordered = sorted(members)
        for (number, depth), (following, deeper) in pairwise(ordered):
            if depth >= deeper:
                yield f"{stack}{number} has depth {depth}, {stack}{following} has {deeper}"


def check_order(groups: Groups, order: Sequence[str]) -> Iterable[str]:
    """All layers that one expression matches lie less deep than all that the next matches."""
    last, last_pattern = -math.inf, ""
    for pattern in order:
        depths = [group["depth"] for group in groups if re.fullmatch(pattern, group["name"])]
        if not depths:
            yield f"no layer is named {pattern}"
            continue
        if min(depths) <= last:
            yield f"{pattern} begins at depth {min(depths)}, {last_pattern} ends at {last}"
        last, last_pattern = max(depths), pattern
