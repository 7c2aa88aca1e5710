"""Parameter groups of a model, one per layer, ordered by depth from the input."""

import inspect
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lerac_fast.curricula.depth import FirstUse, Place, first_uses, parameter_places
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

    ::

        optimizer = SGD(layer_groups(model, example_inputs=x), lr=0.1, momentum=0.9)

    **Mind the direction.** LeRaC gives the layers near the *input* (depth 1) the *larger* rate. Layer-wise
    learning rate decay for fine-tuning does the reverse. The groups serve both: make the rate a function of
    ``group["depth"]``.

    With example inputs, depth is measured by following the data through one forward pass, whatever the
    order in which the modules are registered: a parameter's depth is one more than the largest depth among
    the inputs of the operation that first uses it. Parallel branches share depths; tied weights belong to
    their earliest use. The pass costs no computation (fake tensors) unless control flow depends on values,
    when copies of the real tensors are run; the model is left as it was. Without example inputs, the order
    of registration stands for the depth.

    A normalisation layer, and a module or parameter that is a bias alone, belongs to the layer whose output
    it follows: in a ResNet, ``"conv1"`` holds ``conv1.weight``, ``bn1.weight`` and ``bn1.bias``. If it
    follows several (residual sum, concatenation), the deepest; if none (the raw input), it is a layer of
    its own.

    Args:
        model: on any device, the meta device included; wrappers of ``torch.compile``, DataParallel and
            DistributedDataParallel are seen through.
        example_inputs: what the forward pass takes: a tuple or list of its positional inputs; a mapping whose
            keys it accepts as its keyword inputs; anything else is its only input. Shapes matter, values do
            not unless control flow depends on them.
        example_kwargs: its keyword inputs.
        by: what makes a layer.

            - ``"module"``: each module that owns parameters, named by its path (an LSTM is one layer, however
              many it stacks). Parameters of the model itself form a layer with those that the same operation
              uses, named by the first of them.
            - ``"resnet"``: the layout of the LeRaC authors: the stem, each residual block with its norms and
              shortcut, the head. Blocks are named as in torchvision, ``layer1.0``.
            - any other string, or a compiled pattern: a regular expression for the names of blocks. A block
              is the shortest prefix of a parameter's name, in whole components, that it matches in full, such
              as ``r"encoder\\.layer\\.\\d+"``. Parameters outside of all blocks are grouped by module.
            - a function from a parameter's name to the name of its layer, or None to group it by module.
        options: a function from a parameter's name and the parameter to further entries of its group, or
            None, such as ``lambda name, p: {"weight_decay": 0.0} if p.ndim < 2 else None``. Where the options
            within a layer differ, it is split into groups of the same name and depth.

    Returns:
        One dict per group: ``params`` (a list in order of registration), ``name``, ``depth`` and its
        options. ``depth`` counts the distinct depths of the layers, from 1 at the input; a layer has the
        smallest depth of its weights, norms aside. Every trainable parameter is in exactly one group.
        Frozen ones are in none, but count for depth. Those that the forward pass does not use come last,
        deeper than all others, and a UserWarning names them.

    Raises:
        TypeError: an argument, or what `by` or `options` return, is of the wrong kind.
        ValueError: nothing to train, uninitialised (lazy) parameters, a pattern that matches nothing, example
            inputs without a tensor, reserved options, or a model compiled by torch.jit.
        RuntimeError: the forward pass fails; its own error is the cause.

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
    """As if each parameter were used by an operation of its own, one after the other."""
    previous = [None, *places]
    return {name: FirstUse(i, i, after) for i, (name, after) in enumerate(zip(places, previous, strict=False), 1)}


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
    """Whether it came with a norm or a lone bias, which do not set the depth of the layer that they join."""


def _assign_layers(
    places: Mapping[str, Place], uses: Mapping[str, FirstUse], block_of: Callable[[str], str | None]
) -> dict[str, _Membership]:
    modules = _owning_modules(places, uses)
    members: dict[str, dict[str, Place]] = defaultdict(dict)
    for name, module in modules.items():
        members[module][name] = places[name]
    followers = {module for module, parameters in members.items() if _is_norm(parameters) or _is_bias(parameters)}
    blocks = {name: block_of(name) for name in places}

    def layer_of(name: str) -> str:
        block, module = blocks[name], modules[name]
        if block is not None:
            return block
        if module in followers and name in uses:
            # What it follows lies less deep, so this ends.
            after = min(uses[other] for other in members[module] if other in uses).after
            if after is not None:
                return layer_of(after)
        return module

    return {name: _Membership(layer_of(name), modules[name] in followers) for name in places}


def _owning_modules(places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> dict[str, str]:
    """The module that each parameter belongs to; of the model's own, the first that its operation uses."""
    modules: dict[str, str] = {}
    first_of_operation: dict[int, str] = {}
    for name in places:
        path, tensor = _split_name(name)
        if path:
            modules[name] = path
        elif name in uses:
            modules[name] = first_of_operation.setdefault(uses[name].order, tensor)
        else:
            modules[name] = tensor
    return modules


def _split_name(name: str) -> tuple[str, str]:
    """The path of the module and the name of its tensor, which may be parametrized."""
    path, parametrized, tensor = f".{name}".partition(".parametrizations.")
    if parametrized:
        return path[1:], tensor.partition(".")[0]
    path, _, tensor = name.rpartition(".")
    return path, tensor


def _is_norm(members: Mapping[str, Place]) -> bool:
    """By class name, as most norms are not torch's; but PreNormBlock has parts, NormalizedLinear a matrix."""
    owners = [place.owner for place in members.values()]
    if any(isinstance(owner, nn.LayerNorm | nn.RMSNorm) for owner in owners):
        return True  # their weights may have as many dimensions as the input
    named_so = any("norm" in type(owner).__name__.lower() and not owner._modules for owner in owners)
    return named_so and all(_is_vector(place.parameter) for place in members.values())


def _is_bias(members: Mapping[str, Place]) -> bool:
    return all("bias" in _split_name(name)[1] and _is_vector(place.parameter) for name, place in members.items())


def _is_vector(tensor: Tensor) -> bool:
    return sum(size != 1 for size in tensor.shape) <= 1


def _one_place_each(places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> dict[str, nn.Parameter]:
    """The trainable parameters, each under the name of its earliest use."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, place in places.items():
        if place.parameter.requires_grad:
            names[place.parameter].append(name)
    return {
        min((name for name in tied if name in uses), key=uses.__getitem__, default=tied[0]): parameter
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
    for (layer, position), names in sorted(members.items(), key=lambda item: item[0][1]):
        for extra, parameters in _split_by_options(names, chosen, options):
            depth = 1 + depths.index(position[0])
            groups.append({"params": parameters, "name": layer, "depth": depth, **extra})
    return groups


def _layer_positions(layers: Mapping[str, _Membership], uses: Mapping[str, FirstUse]) -> dict[str, tuple[float, int]]:
    """The smallest depth among the parameters that set each layer's, and its place in order of execution."""
    setting: dict[str, list[tuple[bool, int, int]]] = defaultdict(list)
    for name, use in uses.items():
        layer, follows = layers[name]
        setting[layer].append((follows, use.depth, use.order))
    return {layer: min(candidates)[1:] for layer, candidates in setting.items()}


def _split_by_options(
    names: list[str], parameters: Mapping[str, nn.Parameter], options: Options | None
) -> list[tuple[dict[str, Any], list[nn.Parameter]]]:
    parts: list[tuple[dict[str, Any], list[nn.Parameter]]] = []
    for name in names:
        extra = _options_of(name, parameters[name], options)
        part = next((members for other, members in parts if other == extra), None)
        if part is None:
            parts.append((extra, [parameters[name]]))
        else:
            part.append(parameters[name])
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
