"""An order of layers as plain data, parameter name -> depth: checked against a model, and read."""

from collections.abc import Iterable, Mapping

from torch import nn

from lerac_fast._wrappers import name_among
from lerac_fast.layers._dataflow import FirstUse
from lerac_fast.layers._depth import Place, split_name
from lerac_fast.layers._membership import is_apart


def uses_in_order(order: Mapping[str, int], places: Mapping[str, Place]) -> dict[str, FirstUse]:
    """As if, at each depth, what an operation uses of a module followed what the order has before it.

    So norms and biases join the layer that they were measured in.
    """
    depths = _checked(order, places)
    parts: dict[tuple[str, int], FirstUse] = {}
    last: dict[int, str] = {}
    uses: dict[str, FirstUse] = {}
    for name, depth in sorted(depths.items(), key=lambda item: item[1]):
        part = name if is_apart(name, places[name]) else split_name(name)[0]
        use = FirstUse(depth, len(parts), last.get(depth), measured=False)
        uses[name] = parts.setdefault((part, depth), use)
        last[depth] = name
    return uses


def _checked(order: Mapping[str, int], places: Mapping[str, Place]) -> dict[str, int]:
    """The order by the names of the model, if the two have the same parameters."""
    if not isinstance(order, Mapping):
        raise TypeError(f"order must be a mapping of parameter names to depths, not {type(order).__name__}")
    for name, depth in order.items():
        if not isinstance(depth, int) or isinstance(depth, bool):
            raise TypeError(f"order[{name!r}] must be an integer, not {depth!r}")
    depths = {name_among(places, name): depth for name, depth in order.items()}
    names: dict[nn.Parameter, list[str]] = {}
    for name, place in places.items():
        if place.parameter.requires_grad:
            names.setdefault(place.parameter, []).append(name)
    missing = [tied[0] for tied in names.values() if depths.keys().isdisjoint(tied)]
    unknown = [name for name in order if name_among(places, name) not in places]
    wrong = [
        f"{what} {_listed(names)}"
        for what, names in (("the order has no", missing), ("the model has no", unknown))
        if names
    ]
    if wrong:
        raise ValueError(
            f"order is of another model: {'; '.join(wrong)}. Measure this one by layer_order; for a part of a model, "
            "such as a pipeline stage, leave the names of the other parts out"
        )
    return depths


def _listed(names: Iterable[str]) -> str:
    names = [*names]
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
