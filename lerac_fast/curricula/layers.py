"""Parameter groups of a model, one per layer, ordered by depth from the input."""

import inspect
import math
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from lerac_fast.curricula._dataflow import FirstUse, is_vector
from lerac_fast.curricula.depth import Place, first_uses, parameter_places, split_name
from lerac_fast.curricula.wrappers import unwrap

By: TypeAlias = str | re.Pattern[str] | Callable[[str], str | None]
Options: TypeAlias = Callable[[str, nn.Parameter], Mapping[str, Any] | None]

_RESNET_BLOCK = re.compile(r"layer\d+\.\d+")
_RESERVED = {"params", "name", "depth"}


def layer_groups(
    model: nn.Module,
    *,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    by: By = "module",
    options: Options | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimizer: one per layer, from the input of the model to its output.


        optimizer = SGD(layer_groups(model, example_inputs=x), lr=0.1, momentum=0.9)

    **Mind the direction.** LeRaC gives the layers near the *input* (depth 1) the *larger* rate. Layer-wise
    learning rate decay for fine-tuning does the reverse. The groups serve both: make the rate a function of
    `group["depth"]`.

    With example inputs, depth is measured by following the data through one forward pass, whatever the
    order in which the modules are registered: a parameter's depth is one more than the largest depth among
    the inputs of the operation that first uses it. Parallel branches share depths; tied weights belong to
    their earliest use. The pass costs no computation (fake tensors) unless control flow depends on values,
    when copies of the real tensors are run. It runs in a forked child process, so that nothing of it stays in the
    model or in this process. Without example inputs, the order of registration stands for the depth.

    A normalisation layer, and a parameter that is a bias, belongs to the layer whose output it follows: in a
    ResNet, `"conv1"` holds `conv1.weight`, `bn1.weight` and `bn1.bias`. If it follows several (residual
    sum, concatenation), the deepest; if none (the raw input), it is a layer of its own. torch's norms are known by
    their class, others by what they do to the data: they divide it by a statistic of it, and scale or shift it.

    Args:
        model: on any device, the meta device included; wrappers of `torch.compile`, DataParallel and
            DistributedDataParallel are seen through.
        example_inputs: what the forward pass takes: a tuple or list of its positional inputs; a mapping whose
            keys it accepts as its keyword inputs; anything else is its only input. Shapes matter, values do
            not unless control flow depends on them.
        example_kwargs: its keyword inputs.
        by: what makes a layer.

            - `"module"`: each module that owns parameters, named by its path (an LSTM is one layer, however
              many it stacks). Where a module uses its parameters in several operations, as functional code and
              lists of parameters do, each operation is a layer, named by its first parameter.
            - `"resnet"`: the layout of the LeRaC authors: the stem, each residual block with its norms and
              shortcut, the head. Blocks are named as in torchvision, `layer1.0`.
            - any other string, or a compiled pattern: a regular expression for the names of blocks. A block
              is the shortest prefix of a parameter's name, in whole components, that it matches in full, such
              as `r"encoder\\.layer\\.\\d+"`. Parameters outside of all blocks are grouped by module.
            - a function from a parameter's name to the name of its layer, or None to group it by module.
        options: a function from a parameter's name and the parameter to further entries of its group, or
            None, such as `lambda name, p: {"weight_decay": 0.0} if p.ndim < 2 else None`. Where the options
            within a layer differ, it is split into groups of the same depth: the first has the name of the layer, the
            others that of their first parameter.

    Returns:
        One dict per group: `params` (a list in order of registration), `name` (no two are equal), `depth` and
        its options. `depth` counts the distinct depths of the layers, from 1 at the input; a layer has the depth
        at which the data enters it (of several entries the deepest: a block with a time embedding or a text lies
        where its main path is), norms aside. Every trainable parameter is in exactly one group. Frozen ones are in
        none, but count for depth. Those that the forward pass uses neither in evaluation nor in training mode come
        last, deeper than all others, and a UserWarning names them.

    Raises:
        TypeError: an argument, or what `by` or `options` return, is of the wrong kind.
        ValueError: nothing to train, uninitialised (lazy) parameters, a pattern that matches nothing, example
            inputs without a tensor, reserved options, a model compiled by torch.jit, or example inputs for a model
            that is sharded (DTensors, FSDP).
        RuntimeError: the forward pass fails (its own error is the cause) or communicates with other processes, or its
            child process ends.

    Source: Croitoru et al., "Learning Rate Curriculum", Eq. 6 (the order of the layers from the input).
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    model = unwrap(model)
    places = parameter_places(model)
    _check_trainable(model, places)
    if example_inputs is None and example_kwargs is None:
        uses = _registration_order(places)
    else:
        uses = first_uses(model, *call_arguments(model, example_inputs, example_kwargs))
    layers = _assign_layers(places, uses, _block_function(by, places))
    chosen = _one_place_each(places, uses)
    unused = [name for name in chosen if name not in uses]
    if unused:
        warnings.warn(
            f"the forward pass with the example inputs does not use {', '.join(unused)}: ordered last",
            UserWarning,
            stacklevel=2,
        )
    return _build_groups(chosen, layers, uses, options)


def _check_trainable(model: nn.Module, places: Mapping[str, Place]) -> None:
    lazy = [name for name, place in places.items() if is_lazy(place.parameter)]
    if lazy:
        raise ValueError(f"uninitialised parameters: {', '.join(lazy)}; run the model once before grouping them")
    if not any(place.parameter.requires_grad for place in places.values()):
        raise ValueError(f"{type(model).__name__} has no trainable parameters")


def call_arguments(
    model: nn.Module, example_inputs: Any, example_kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if example_kwargs is not None and not isinstance(example_kwargs, Mapping):
        raise TypeError(f"example_kwargs must be a mapping, not {type(example_kwargs).__name__}")
    if isinstance(example_inputs, Mapping) and example_kwargs is None:
        try:
            inspect.signature(model.forward).bind(**example_inputs)
        except TypeError:
            return (example_inputs,), {}
        return (), dict(example_inputs)
    kwargs = dict(example_kwargs or {})
    if example_inputs is None:
        return (), kwargs
    # A named tuple, such as a PackedSequence, is one input.
    return (tuple(example_inputs) if type(example_inputs) in (tuple, list) else (example_inputs,)), kwargs


def _registration_order(places: Mapping[str, Place]) -> dict[str, FirstUse]:
    """As if each module were an operation, one after the other; parameters of the model itself are one each."""
    uses: dict[str, FirstUse] = {}
    last: str | None = None
    module, after = None, None
    for number, (name, place) in enumerate(places.items(), 1):
        path = split_name(name)[0]
        if path != module or _is_apart(name, place):
            module, after, order = path, last, number
        uses[name] = FirstUse(order, order, after, measured=False)
        last = name
    return uses


def _block_function(by: By, places: Mapping[str, Place]) -> Callable[[str], str | None]:
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


class _Membership(NamedTuple):
    layer: str
    follows: bool
    """Whether it came as part of a norm or as a bias, which do not set the depth of the layer that they join."""


def _assign_layers(
    places: Mapping[str, Place], uses: Mapping[str, FirstUse], block_of: Callable[[str], str | None]
) -> dict[str, _Membership]:
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
            first = min((uses[other] for other in parts[part] if other in uses), key=_position)
            # What it follows lies less deep, so this ends. It does not join what was used before, on other data.
            if first.after is not None and (not first.measured or first.depth == uses[first.after].depth + 1):
                return layer_of(first.after)
        return titles[part]

    return {name: _Membership(layer_of(name), part_of[name] in followers) for name in places}


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
                order = -1 - number if _is_apart(name, places[name]) else first
            parts[path, order].append(name)
    return parts


def _titles(parts: Mapping[_Part, list[str]], followers: set[_Part]) -> dict[_Part, str]:
    """A part has the path of its module if no other part of it is a layer, else the name of its first parameter."""
    layers = Counter(path for path, _ in parts.keys() - followers)
    return {
        part: part[0] if part[0] and layers[part[0]] <= 1 else ".".join(filter(None, split_name(names[0])))
        for part, names in parts.items()
    }


def _is_apart(name: str, place: Place) -> bool:
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


def _position(use: FirstUse) -> tuple[int, int]:
    return use.depth, use.order


def _one_place_each(places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> dict[str, nn.Parameter]:
    """The trainable parameters, each under the name of its earliest use."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, place in places.items():
        if place.parameter.requires_grad:
            names[place.parameter].append(name)
    return {
        min((name for name in tied if name in uses), key=lambda name: _position(uses[name]), default=tied[0]): parameter
        for parameter, tied in names.items()
    }


def _build_groups(
    chosen: Mapping[str, nn.Parameter],
    layers: Mapping[str, _Membership],
    uses: Mapping[str, FirstUse],
    options: Options | None,
) -> list[dict[str, Any]]:
    positions = _layer_positions(layers, uses)
    last = (math.inf, 0)
    members: dict[tuple[str, tuple[float, int]], list[str]] = defaultdict(list)
    for name in chosen:
        layer = layers[name].layer
        members[layer, positions[layer] if name in uses else last].append(name)
    depths = sorted({depth for _, (depth, _) in members})
    groups: list[dict[str, Any]] = []
    taken: set[str] = set()
    for (layer, position), names in sorted(members.items(), key=lambda item: item[0][1]):
        for extra, members_of_part in _split_by_options(names, chosen, options):
            # The first part has the name of the layer, the others that of their first parameter.
            name = members_of_part[0] if layer in taken else layer
            taken.add(name)
            parameters = [chosen[member] for member in members_of_part]
            groups.append({"params": parameters, "name": name, "depth": 1 + depths.index(position[0]), **extra})
    return groups


def _layer_positions(layers: Mapping[str, _Membership], uses: Mapping[str, FirstUse]) -> dict[str, tuple[float, int]]:
    """The depth at which the data enters each layer, by its main path, and its place in order of execution.

    The main path is the deepest of those that enter: time embeddings, texts and the like come from elsewhere. Norms
    and biases do not set the depth of a layer that has weights.
    """
    entering: dict[str, dict[bool, list[tuple[int, int]]]] = defaultdict(lambda: {False: [], True: []})
    for name, use in uses.items():
        layer, follows = layers[name]
        if follows or _enters(name, layers, uses):
            entering[layer][follows].append(_position(use))
    return {
        layer: max(of[False], key=lambda position: (position[0], -position[1]), default=min(of[True], default=(0, 0)))
        for layer, of in entering.items()
    }


def _enters(name: str, layers: Mapping[str, _Membership], uses: Mapping[str, FirstUse]) -> bool:
    """Whether the data comes to a parameter from outside of its layer, norms and biases of the layer aside."""
    layer, use = layers[name].layer, uses[name]
    while use.after is not None and layers[use.after] == (layer, True):
        use = uses[use.after]
    if use.after is None or layers[use.after].layer != layer:
        return True
    # What comes before was used again, on deeper data from elsewhere.
    return uses[use.after].depth + 1 < use.depth <= uses[use.after].deepest + 1


def _split_by_options(
    names: list[str], parameters: Mapping[str, nn.Parameter], options: Options | None
) -> list[tuple[dict[str, Any], list[str]]]:
    parts: list[tuple[dict[str, Any], list[str]]] = []
    for name in names:
        extra = _options_of(name, parameters[name], options)
        part = next((members for other, members in parts if other == extra), None)
        if part is None:
            parts.append((extra, [name]))
        else:
            part.append(name)
    return parts


def _options_of(name: str, parameter: nn.Parameter, options: Options | None) -> dict[str, Any]:
    extra = options(name, parameter) if options is not None else None
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise TypeError(f"options({name!r}, parameter) must return a mapping or None, not {extra!r}")
    reserved = _RESERVED & extra.keys()
    if reserved:
        raise ValueError(f"options({name!r}, parameter) sets {', '.join(sorted(reserved))}, which layer_groups sets")
    return dict(extra)
