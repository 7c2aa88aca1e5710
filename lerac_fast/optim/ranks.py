"""Whether all processes have the same param groups."""

from __future__ import annotations  # there may be no distributed.ProcessGroup

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import distributed

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
    apart. Hyperparameters are compared by value if they are numbers, strings, tensors, or lists, sets or mappings of
    these, else by their type alone. Values of parameters and states are not compared.

    Args:
        optimizer: ours or torch's. Not changed.
        process_group: of the ranks that are to have the same groups, which all call this. Default: all ranks. For
            pipeline parallelism, those of one stage.

    Raises:
        ValueError: on every rank of the process group, with the same message. It names the first parameter, or the
            first hyperparameter, that differs, and two ranks, by their numbers among all ranks.
        RuntimeError: on every rank of the process group, if the groups of one cannot be read.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    own, problem = _read(optimizer)
    digest = hashlib.sha256(repr(own).encode()).hexdigest()
    told: list[tuple[str, str | None]] = [("", None)] * distributed.get_world_size(process_group)
    distributed.all_gather_object(told, (digest, problem), group=process_group)
    for rank, (_, reason) in enumerate(told):
        if reason is not None:
            raise RuntimeError(f"the param groups of rank {_of_all(rank, process_group)} cannot be read: {reason}")
    other = next((rank for rank, of_rank in enumerate(told) if of_rank != told[0]), None)
    if other is None:
        return
    ranks = [_of_all(rank, process_group) for rank in (0, other)]
    first, second = (_sent_by(rank, own, process_group) for rank in ranks)
    raise ValueError(
        f"the ranks have different param groups: {_difference(first, second, *ranks)}. Make the groups in the same "
        "way on every rank, such as by layer_groups(model, order=order) from one order"
    )


def _of_all(rank: int, process_group: distributed.ProcessGroup | None) -> int:
    return rank if process_group is None else distributed.get_global_rank(process_group, rank)


class _Group(NamedTuple):
    """As plain data, whose `repr` is the same on all ranks."""

    params: list[tuple[str | None, tuple[int, ...] | None]]
    options: list[tuple[Any, Any]]


class _Place(NamedTuple):
    group: int
    number: int
    shape: tuple[int, ...] | None


def _read(optimizer: torch.optim.Optimizer) -> tuple[list[_Group], str | None]:
    """The groups, or why there are none: the other ranks wait to hear of it."""
    try:
        return [_described(group) for group in optimizer.param_groups], None
    except Exception as error:
        return [], f"{type(error).__name__}: {error}"


def _described(group: Mapping[str, Any]) -> _Group:
    params = group["params"]
    names = [unwrapped(name) for name in group.get("param_names") or ()]
    names += [None] * (len(params) - len(names))
    options = {key: value for key, value in group.items() if key not in ("params", "param_names")}
    return _Group([*zip(names, map(whole_shape, params), strict=False)], _plain_items(options))


def _plain(option: Any) -> Any:
    if hasattr(option, "tolist"):
        return option.tolist()  # of tensors, and of NumPy's numbers, which print in another way
    if isinstance(option, tuple | list):
        return [*map(_plain, option)]
    if isinstance(option, set | frozenset):
        return sorted(map(repr, map(_plain, option)))
    if isinstance(option, Mapping):
        return _plain_items(option)
    return option if isinstance(option, str | int | float | None) else type(option).__name__


def _plain_items(options: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return sorted(((_plain(key), _plain(value)) for key, value in options.items()), key=lambda item: repr(item[0]))


def _sent_by(rank: int, own: list[_Group], process_group: distributed.ProcessGroup | None) -> list[_Group]:
    message = [own]
    distributed.broadcast_object_list(message, rank, group=process_group)
    return message[0]


def _difference(first: list[_Group], second: list[_Group], one_rank: int, other: int) -> str:
    """In words; of what two ranks have, which is not the same."""
    here, there = _places(first), _places(second)
    for name in here | there:
        if here.get(name) != there.get(name):
            here_is, there_is = _in_words(here.get(name)), _in_words(there.get(name))
            return f"{name} is {here_is} on rank {one_rank} and {there_is} on rank {other}"
    for number, (one, two) in enumerate(zip(first, second, strict=False)):
        here_set, there_set = dict(one.options), dict(two.options)
        for key in here_set | there_set:
            here_is, there_is = repr(here_set.get(key)), repr(there_set.get(key))
            if here_is != there_is:
                member = f", of {_named(number, 0, one.params[0][0])}," if one.params else ""
                where = f"{key!r} of param group {number}{member}"
                return f"{where} is {here_is} on rank {one_rank} and {there_is} on rank {other}"
    return f"rank {one_rank} has {len(first)} and rank {other} has {len(second)}"


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
