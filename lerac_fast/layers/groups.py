"""Parameter groups of a model, one per layer, ordered by depth from the input."""

import inspect
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.nn.parameter import is_lazy

from lerac_fast._wrappers import unwrap
from lerac_fast.layers._dataflow import FirstUse
from lerac_fast.layers._depth import Place, first_uses, parameter_places, split_name
from lerac_fast.layers._membership import By as By
from lerac_fast.layers._membership import Membership, assign_layers, block_function, is_apart
from lerac_fast.layers._order import uses_in_order
from lerac_fast.layers._sharded import reshard

Options: TypeAlias = Callable[[str, nn.Parameter], Mapping[str, Any] | None]
_Position: TypeAlias = tuple[float, int]

_RESERVED = {"params", "param_names", "name", "depth"}
_LAST: _Position = (math.inf, 0)


def layer_groups(
    model: nn.Module,
    *,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    order: Mapping[str, int] | None = None,
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
    model or in this process. Without example inputs or an `order`, the order of registration
    stands for the depth.

    **Shard the model first.** `fully_shard` and `parallelize_module` put new parameters in the place of the model's. An
    optimizer of groups that were made before then trains nothing, and nothing tells it: the old parameters go on
    living, without gradients.

    **Names.** The groups have `param_names`, by which `lerac_fast.optim.regroup` finds parameters again. Optimizers of
    `torch.optim` refuse groups without names beside them ("all optimizer param groups should be with/without names"),
    also when progressive unfreezing adds one later: give pairs of a name and a parameter there, or delete
    `param_names` from these groups first. Those of `lerac_fast.optim` take groups with and without names.

    A normalisation layer, and a parameter that is a bias, belongs to the layer whose output it follows: in a
    ResNet, `"conv1"` holds `conv1.weight`, `bn1.weight` and `bn1.bias`. If it follows several (residual
    sum, concatenation), the deepest; if none (the raw input), it is a layer of its own. torch's norms are known by
    their class, others by what they do to the data: they divide it by a statistic of it, and scale or shift it.

    Args:
        model: on any device, the meta device included; wrappers of `torch.compile`, DataParallel and
            DistributedDataParallel are seen through. After `fully_shard` or `parallelize_module` it is measured as if
            it were whole, without a collective. What cannot run so (control flow on values, sizes that were changed
            for the parts) needs an `order`, and so does FullyShardedDataParallel, with `use_orig_params=True`.
        example_inputs: what the forward pass takes: a tuple or list of its positional inputs; a mapping whose
            keys it accepts as its keyword inputs; anything else is its only input. Shapes matter, values do
            not unless control flow depends on them.
        example_kwargs: its keyword inputs.
        order: the depth of each parameter by its name, as `layer_order` measures it, instead of example inputs. Names
            may have the prefixes that wrappers add. Layers are what they are without example inputs, except that norms
            and biases belong to the layer before them in the order, of the same depth. `depth` is the one in the order,
            the least where that gives the parameters of a layer several.
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
        One dict per group: `params` (a list in order of registration), `param_names` (what `model.named_parameters()`
        calls them, without what wrappers of the model put into names), `name` (no two are equal), `depth` and
        its options. `depth` counts the distinct depths of the layers, from 1 at the input; a layer has the depth
        at which the data enters it (of several entries the deepest: a block with a time embedding or a text lies
        where its main path is), norms aside. Every trainable parameter is in exactly one group. Frozen ones are in
        none, but count for depth. Those that the forward pass uses neither in evaluation nor in training mode come
        last, deeper than all others, and a UserWarning names them.

    Raises:
        TypeError: an argument, or what `by` or `options` return, is of the wrong kind.
        ValueError: nothing to train, uninitialised (lazy) parameters, a pattern that matches nothing, example
            inputs without a tensor, reserved options, a model compiled by torch.jit, or example inputs for one of
            FullyShardedDataParallel; an order that lacks trainable parameters of the model, or has some that the
            model lacks.
        RuntimeError: the forward pass fails (its own error is the cause) or communicates with other processes, or its
            child process ends.

    Source: Croitoru et al., "Learning Rate Curriculum", Eq. 6 (the order of the layers from the input).
    """
    if order is not None and not (example_inputs is None and example_kwargs is None):
        raise ValueError("give either order or example inputs, not both")
    analysis = _analysed(model, example_inputs, example_kwargs, by, order)
    chosen = _one_place_each(analysis.places, analysis.uses)
    _warn_of_unused(chosen, analysis.uses)
    positions = {name: analysis.positions[name] for name in chosen}
    depths = _counted(positions.values()) if order is None else {depth: depth for depth, _ in positions.values()}
    return _build_groups(chosen, _registered_names(analysis.places), analysis.layers, positions, depths, options)


def layer_order(
    model: nn.Module,
    *,
    example_inputs: Any = None,
    example_kwargs: Mapping[str, Any] | None = None,
    by: By = "module",
) -> dict[str, int]:
    """The depth of every parameter, by name, as plain data: measured once, anywhere, for groups made elsewhere.

    Measure on one machine, on the meta device if the model is too large for it, and make the groups of the sharded
    model from it on every rank. They need no example inputs, no forward pass and no collective then:

        with torch.device("meta"):
            order = layer_order(Model(), example_inputs=x)  # json.dump(order, file) keeps it
        ...
        fully_shard(model)
        optimizer = AdamW(layer_groups(model, order=order), lr=1e-3)

    Args:
        model: as for `layer_groups`. It may be frozen altogether.
        example_inputs: as for `layer_groups`; without them, the order of registration stands for the depth.
        example_kwargs: likewise.
        by: as for `layer_groups`, as the parameters of a layer share its depth. Give both the same `by`.

    Returns:
        One entry for each name of a parameter, in the order of depth. Depths count from 1 at the input, and are those
        that `layer_groups` gives to a model whose parameters are all trainable; here frozen ones have their own, so
        that the order holds whatever is frozen. Parameters that share a tensor (tied weights) have a depth each; the
        groups take the least. Those that the forward pass does not use come last.

    Raises and warns as `layer_groups`.
    """
    analysis = _analysed(model, example_inputs, example_kwargs, by, None, frozen=True)
    _warn_of_unused(analysis.places, analysis.uses)
    depths = _counted(analysis.positions.values())
    number = {layer: j for j, layer in enumerate(dict.fromkeys(m.layer for m in analysis.layers.values()))}

    def sequence(name: str) -> tuple[_Position, int, bool]:
        """Layers by depth, each in one piece, what follows its weights after them: `uses_in_order` reads it so."""
        layer, follows = analysis.layers[name]
        return analysis.positions[name], number[layer], follows

    return {name: depths[analysis.positions[name][0]] for name in sorted(analysis.places, key=sequence)}


class _Analysis(NamedTuple):
    """Which layers a model has, and where."""

    places: dict[str, Place]
    uses: dict[str, FirstUse]
    layers: dict[str, Membership]
    positions: dict[str, _Position]
    """Of the layer of each parameter; of unused ones the last."""


def _analysed(
    model: nn.Module,
    example_inputs: Any,
    example_kwargs: Mapping[str, Any] | None,
    by: By,
    order: Mapping[str, int] | None,
    frozen: bool = False,
) -> _Analysis:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    model = unwrap(model)
    reshard(model)
    places = parameter_places(model)
    _check_initialised(model, places, frozen)
    if order is not None:
        uses = uses_in_order(order, places)
    elif example_inputs is None and example_kwargs is None:
        uses = _registration_order(places)
    else:
        uses = first_uses(model, *call_arguments(model, example_inputs, example_kwargs))
    layers = assign_layers(places, uses, block_function(by, places))
    of_layers = _layer_positions(layers, uses) if order is None else _least_positions(layers, uses)
    positions = {name: of_layers[layers[name].layer] if name in uses else _LAST for name in places}
    return _Analysis(places, uses, layers, positions)


def _counted(positions: Iterable[_Position]) -> dict[float, int]:
    """The number of each distinct depth, from 1."""
    return {depth: number for number, depth in enumerate(sorted({depth for depth, _ in positions}), 1)}


def _warn_of_unused(names: Iterable[str], uses: Mapping[str, FirstUse]) -> None:
    unused = [name for name in names if name not in uses]
    if unused:
        warnings.warn(
            f"the forward pass with the example inputs does not use {', '.join(unused)}: ordered last",
            UserWarning,
            stacklevel=3,
        )


def _check_initialised(model: nn.Module, places: Mapping[str, Place], frozen: bool) -> None:
    lazy = [name for name, place in places.items() if is_lazy(place.parameter)]
    if lazy:
        raise ValueError(f"uninitialised parameters: {', '.join(lazy)}; run the model once before grouping them")
    if not frozen and not any(place.parameter.requires_grad for place in places.values()):
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
        if path != module or is_apart(name, place):
            module, after, order = path, last, number
        uses[name] = FirstUse(order, order, after, measured=False)
        last = name
    return uses


def _one_place_each(places: Mapping[str, Place], uses: Mapping[str, FirstUse]) -> dict[str, nn.Parameter]:
    """The trainable parameters, each under the name of its earliest use."""
    names: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, place in places.items():
        if place.parameter.requires_grad:
            names[place.parameter].append(name)
    return {
        min((name for name in tied if name in uses), key=lambda name: uses[name].position, default=tied[0]): parameter
        for parameter, tied in names.items()
    }


def _registered_names(places: Mapping[str, Place]) -> dict[nn.Parameter, str]:
    """As `named_parameters` has them: by the first place of each."""
    names: dict[nn.Parameter, str] = {}
    for name, place in places.items():
        names.setdefault(place.parameter, name)
    return names


def _build_groups(
    chosen: Mapping[str, nn.Parameter],
    registered: Mapping[nn.Parameter, str],
    layers: Mapping[str, Membership],
    positions: Mapping[str, _Position],
    depths: Mapping[float, float],
    options: Options | None,
) -> list[dict[str, Any]]:
    members: dict[tuple[str, _Position], list[str]] = defaultdict(list)
    for name in chosen:
        members[layers[name].layer, positions[name]].append(name)
    groups: list[dict[str, Any]] = []
    taken: set[str] = set()
    for (layer, (at, _)), names in sorted(members.items(), key=lambda item: item[0][1]):
        for extra, members_of_part in _split_by_options(names, chosen, options):
            # The first part has the name of the layer, the others that of their first parameter.
            name = members_of_part[0] if layer in taken else layer
            taken.add(name)
            parameters = [chosen[member] for member in members_of_part]
            names_of_part = [registered[parameter] for parameter in parameters]
            identity = {"params": parameters, "param_names": names_of_part, "name": name, "depth": depths[at]}
            groups.append(identity | extra)
    return groups


def _least_positions(layers: Mapping[str, Membership], uses: Mapping[str, FirstUse]) -> dict[str, _Position]:
    """Of the layers of a given order, whose depths are those of layers already."""
    least: dict[str, tuple[bool, _Position]] = {}
    for name, use in uses.items():
        layer, follows = layers[name]
        least[layer] = min(least.get(layer, (True, _LAST)), (follows, use.position))
    return {layer: position for layer, (_, position) in least.items()}


def _layer_positions(layers: Mapping[str, Membership], uses: Mapping[str, FirstUse]) -> dict[str, _Position]:
    """The depth at which the data enters each layer, by its main path, and its place in order of execution.

    The main path is the deepest of those that enter: time embeddings, texts and the like come from elsewhere. Norms
    and biases do not set the depth of a layer that has weights.
    """
    entering: dict[str, dict[bool, list[tuple[int, int]]]] = defaultdict(lambda: {False: [], True: []})
    for name, use in uses.items():
        layer, follows = layers[name]
        if follows or _enters(name, layers, uses):
            entering[layer][follows].append(use.position)
    return {
        layer: max(of[False], key=lambda position: (position[0], -position[1]), default=min(of[True], default=(0, 0)))
        for layer, of in entering.items()
    }


def _enters(name: str, layers: Mapping[str, Membership], uses: Mapping[str, FirstUse]) -> bool:
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
