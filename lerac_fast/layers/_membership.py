"""Which parameters form a layer: blocks that the user names, else parts of modules, with the norms after them."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

from torch import nn

from lerac_fast.layers._dataflow import FirstUse, is_vector
from lerac_fast.layers._depth import Place, split_name

By: TypeAlias = str | re.Pattern[str] | Callable[[str], str | None]

_RESNET_BLOCK = re.compile(r"layer\d+\.\d+")


def block_function(by: By, places: Mapping[str, Place]) -> Callable[[str], str | None]:
    if callable(by):
        return _checked_block_function(by)
    if by == "module":
        return lambda _: None
    if not isinstance(by, str | re.Pattern):
        raise TypeError(f"by must be a string, a compiled pattern or a function, not {by!r}")
    try:
        pattern = _RESNET_BLOCK if by == "resnet" else re.compile(by)
    except re.error as error:
        raise ValueError(f"by={by!r} is not a regular expression: {error}") from error
    blocks = {name: _matching_prefix(pattern, name) for name in places}
    if not any(blocks.values()):
        raise ValueError(f"by={by!r} matches no block of {', '.join(list(places)[:3])}, ...")
    return blocks.get


def _checked_block_function(by: Callable[[str], str | None]) -> Callable[[str], str | None]:
    def block(name: str) -> str | None:
        answer = by(name)
        if answer is not None and not isinstance(answer, str):
            raise TypeError(f"by({name!r}) must return the name of a layer or None, not {answer!r}")
        return answer

    return block


def _matching_prefix(pattern: re.Pattern[str], name: str) -> str | None:
    prefixes = accumulate(name.split("."), "{}.{}".format)
    return next((prefix for prefix in prefixes if pattern.fullmatch(prefix)), None)


class Membership(NamedTuple):
    layer: str
    follows: bool
    """Whether it came as part of a norm or as a bias, which do not set the depth of the layer that they join."""


def assign_layers(
    places: Mapping[str, Place], uses: Mapping[str, FirstUse], block_of: Callable[[str], str | None]
) -> dict[str, Membership]:
    parts = _parts(places, uses)
    followers = {part for part, names in parts.items() if _follows(names, places, uses)}
    part_of = {name: part for part, names in parts.items() for name in names}
    titles = _titles(parts, followers)
    blocks = {name: block_of(name) for name in places}

    def layer_of(name: str) -> str:
        block, part = blocks[name], part_of[name]
        if block is not None:
            return block
        if part in followers and name in uses:
            first = min((uses[other] for other in parts[part] if other in uses), key=lambda use: use.position)
            # What it follows lies less deep, so this ends. It does not join what was used before, on other data.
            if first.after is not None and (not first.measured or first.depth == uses[first.after].depth + 1):
                return layer_of(first.after)
        return titles[part]

    return {name: Membership(layer_of(name), part_of[name] in followers) for name in places}


# Of a module, what one operation uses: its path and the operation's number.
_Part: TypeAlias = tuple[str, int]
_WHOLE_MODULES = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


def _parts(places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> dict[_Part, list[str]]:
    """The parameters of each module, apart where different operations use them; unused ones join the first part."""
    modules: dict[str, list[str]] = defaultdict(list)
    for name in places:
        modules[split_name(name)[0]].append(name)
    parts: dict[_Part, list[str]] = defaultdict(list)
    for path, names in modules.items():
        used = [uses[name].order for name in names if name in uses]
        first = min(used, default=0)
        whole = _is_norm(names, places, uses) or any(isinstance(places[n].owner, _WHOLE_MODULES) for n in names)
        for number, name in enumerate(names):
            if whole:
                order = first
            elif name in uses:
                order = uses[name].order
            else:
                order = -1 - number if is_apart(name, places[name]) else first
            parts[path, order].append(name)
    return parts


def _titles(parts: Mapping[_Part, list[str]], followers: set[_Part]) -> dict[_Part, str]:
    """A part has the path of its module if no other part of it is a layer, else the name of its first parameter."""
    layers = Counter(path for path, _ in parts.keys() - followers)
    return {
        part: part[0] if part[0] and layers[part[0]] <= 1 else ".".join(filter(None, split_name(names[0])))
        for part, names in parts.items()
    }


def is_apart(name: str, place: Place) -> bool:
    """Whether nothing says that a parameter belongs with others: of the model itself, or in a list."""
    return not split_name(name)[0] or isinstance(place.owner, nn.ParameterList)


_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def _is_norm(names: Sequence[str], places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> bool:
    """By its class, if that is one of torch's; else by what it does; unmeasured, by its name and shapes."""
    if any(isinstance(places[name].owner, _NORMS) for name in names):
        return True
    if not all(is_vector(places[name].parameter) for name in names):
        return False
    roles = [uses[name].role for name in names if name in uses]
    if any(uses[name].measured for name in names if name in uses):
        return bool(split_name(names[0])[0]) and "norm" in roles
    owners = [places[name].owner for name in names]
    alike = len({places[name].parameter.numel() for name in names}) == 1
    return alike and all("norm" in type(owner).__name__.lower() and not owner._modules for owner in owners)


def _follows(names: Sequence[str], places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> bool:
    if _is_norm(names, places, uses):
        return True
    roles = {uses[name].role for name in names if name in uses}
    if roles and None not in roles:
        return True
    return all("bias" in split_name(name)[1] and is_vector(places[name].parameter) for name in names)
