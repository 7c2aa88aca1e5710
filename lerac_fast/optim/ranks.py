"""Whether all processes have the same param groups."""

from __future__ import annotations  # there may be no distributed.ProcessGroup

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed

from lerac_fast.optim._checkpoint import unwrapped
from lerac_fast.optim._sharding import whole_shape


def check_ranks(optimizer: torch.optim.Optimizer, process_group: distributed.ProcessGroup | None = None) -> None:
    """Raises an error on every rank if the ranks have different param groups.

        optimizer = AdamW(layer_groups(model, order=order), lr=1e-3)
        check_ranks(optimizer)

    A step sends nothing, so that no step can find out. Ranks that disagree train their parts of a parameter at
    different rates, or wait for each other when a checkpoint is saved. The cost is a short message between the ranks:
    call this once, when the groups are made, and again where a part of the ranks may have changed them.

    Compared are the number and the order of the groups, their hyperparameters, and which parameters they have, in
    which order, by their names (`param_names`) and shapes. Of groups without names, shapes alone tell parameters
    apart. Values of parameters and states are not compared.

    Args:
        optimizer: ours or torch's. Not changed.
        process_group: of the ranks that are to have the same groups, which all call this. Default: all ranks. For
            pipeline parallelism, those of one stage.

    Raises:
        ValueError: on every rank of the process group, with the same message. It names the first parameter, or the
            first hyperparameter, that differs, and two ranks.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    own = [_described(group) for group in optimizer.param_groups]
    digests: list[str] = [""] * distributed.get_world_size(process_group)
    distributed.all_gather_object(digests, hashlib.sha256(repr(own).encode()).hexdigest(), group=process_group)
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is None:
        return
    first, second = (_sent_by(rank, own, process_group) for rank in (0, other))
    raise ValueError(
        f"the ranks have different param groups: {_difference(first, second, other)}. Make the groups in the same way "
        "on every rank, such as by layer_groups(model, order=order) from one order"
    )


class _Group(NamedTuple):
    """As plain data, whose `repr` is the same on all ranks."""

    params: list[tuple[str | None, tuple[int, ...] | None]]
    options: list[tuple[str, Any]]


class _Place(NamedTuple):
    group: int
    number: int
    shape: tuple[int, ...] | None


def _described(group: Mapping[str, Any]) -> _Group:
    params = group["params"]
    names = [unwrapped(name) for name in group.get("param_names") or ()]
    names += [None] * (len(params) - len(names))
    options = sorted((key, _plain(value)) for key, value in group.items() if key not in ("params", "param_names"))
    return _Group([*zip(names, map(whole_shape, params), strict=False)], options)


def _plain(option: Any) -> Any:
    if isinstance(option, Tensor):
        return option.tolist()
    if isinstance(option, tuple | list):
        return [*map(_plain, option)]
    if isinstance(option, float):
        return float(option)  # NumPy's print in another way
    return option if isinstance(option, str | int | None) else type(option).__name__


def _sent_by(rank: int, own: list[_Group], process_group: distributed.ProcessGroup | None) -> list[_Group]:
    message = [own]
    source = rank if process_group is None else distributed.get_global_rank(process_group, rank)
    distributed.broadcast_object_list(message, source, group=process_group)
    return message[0]


def _difference(first: list[_Group], second: list[_Group], other: int) -> str:
    """In words; of what rank 0 and another have, which is not the same."""
    here, there = _places(first), _places(second)
    for name in here | there:
        if here.get(name) != there.get(name):
            return f"{name} is {_in_words(here.get(name))} on rank 0 and {_in_words(there.get(name))} on rank {other}"
    for number, (one, two) in enumerate(zip(first, second, strict=False)):
        here_set, there_set = dict(one.options), dict(two.options)
        for key in here_set | there_set:
            here_is, there_is = repr(here_set.get(key)), repr(there_set.get(key))
            if here_is != there_is:
                member = f", of {_named(number, 0, one.params[0][0])}," if one.params else ""
                return f"{key!r} of param group {number}{member} is {here_is} on rank 0 and {there_is} on rank {other}"
    return f"rank 0 has {len(first)} and rank {other} has {len(second)}"


def _places(groups: list[_Group]) -> dict[str, _Place]:
    return {
        _named(number, index, name): _Place(number, index, shape)
        for number, group in enumerate(groups)
        for index, (name, shape) in enumerate(group.params)
    }


def _named(group: int, index: int, name: str | None) -> str:
    return f"parameter {name!r}" if name is not None else f"parameter {index} of param group {group}"


def _in_words(place: _Place | None) -> str:
    if place is None:
        return "in no group"
    shape = "" if place.shape is None else f", of shape {place.shape}"
    return f"number {place.number} in param group {place.group}{shape}"
