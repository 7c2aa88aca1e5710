"""Ranks that have different param groups are told so, all of them, by the name of what differs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel

from lerac_fast import layer_groups
from lerac_fast.optim import SGD, check_ranks
from tests.optim.distributed.tensors import collectives
from tests.optim.distributed.test_training import model, shard
from tests.processes import Processes

Groups = list[dict[str, Any]]


def _moved(groups: Groups) -> None:
    groups[1]["params"].append(groups[0]["params"].pop())
    groups[1]["param_names"].append(groups[0]["param_names"].pop())


def _missing(groups: Groups) -> None:
    del groups[-1]


def _reordered(groups: Groups) -> None:
    groups[0], groups[1] = groups[1], groups[0]


def _reshaped(groups: Groups) -> None:
    groups[-1]["params"][-1] = nn.Parameter(torch.ones(3))


def _other_rate(groups: Groups) -> None:
    groups[1]["lr"] = torch.tensor(0.25)


def _unnamed(groups: Groups) -> None:
    for group in groups:
        del group["param_names"]


def _empty(groups: Groups) -> None:
    groups.append({"params": []})


FIRST = r"is number 0 in param group 0, of shape \(6,\) on rank 0 and"
DIFFERENCES: list[tuple[Callable[[Groups], None], str]] = [
    (
        _moved,
        r"parameter '0.norm.bias' is number 1 in param group 0, .* on rank 0 and number 2 in param group 1, .* on",
    ),
    (_missing, r"parameter '2.weight' is number 0 in param group 4, .* on rank 0 and in no group on rank 1"),
    (_reordered, rf"'0.norm.weight' {FIRST} number 0 in param group 1, of shape \(6,\) on rank 1"),
    (_reshaped, r"'2.bias' is number 1 in param group 4, of shape \(1,\) on rank 0 and .*, of shape \(3,\) on rank 1"),
    (_other_rate, "'lr' of param group 1, of parameter '0.up.weight', is 0.5 on rank 0 and 0.25 on rank 1"),
    (_unnamed, rf"parameter '0.norm.weight' {FIRST} in no group on rank 1"),
    (_empty, "rank 0 has 5 and rank 1 has 6"),
]


def _refused(rank: int, differing: int, change: Callable[[Groups], None]) -> str:
    groups = layer_groups(model())
    if rank == differing:
        change(groups)
    optimizer = SGD(groups, lr=0.5)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match="the ranks have different param groups") as error:
        check_ranks(optimizer)
    assert optimizer.param_groups == before
    distributed.barrier()  # nobody waits for another
    return str(error.value)


@pytest.mark.parametrize(("change", "message"), DIFFERENCES)
def test_what_differs_is_named_on_every_rank(two: Processes, change: Callable[[Groups], None], message: str) -> None:
    first, second = two.run(_refused, 1, change)
    assert first == second
    with pytest.raises(ValueError, match=message):
        raise ValueError(first)


def test_two_ranks_of_many_are_named(four: Processes) -> None:
    messages = four.run(_refused, 2, _missing)
    assert "in no group on rank 2" in messages[0]
    assert len({*messages}) == 1


OF_RANKS: list[list[Any]] = [
    [np.int64(0), np.int64(1)],
    [[{1, 2}], [{1, 3}]],
    [{"warmup": [0], 3: None}, {"warmup": [1], 3: None}],
    [{"a": 1}, {3: 1}],
]


def _differing_in(rank: int, of_ranks: list[Any]) -> None:
    groups = layer_groups(model())
    groups[1]["of_mine"] = of_ranks[rank]
    with pytest.raises(ValueError, match=r"'of_mine' of param group 1, of parameter '0\.up\.weight', is"):
        check_ranks(SGD(groups, lr=0.5))


@pytest.mark.parametrize("of_ranks", OF_RANKS, ids=repr)
def test_values_of_any_plain_hyperparameter_are_compared(two: Processes, of_ranks: list[Any]) -> None:
    two.run(_differing_in, of_ranks)


def _refused_in_parts(rank: int) -> str:
    """What is told in the second of two process groups."""
    part = [distributed.new_group(ranks) for ranks in ([0, 1], [2, 3])][rank // 2]
    with pytest.raises(ValueError) as error:
        check_ranks(SGD(model().parameters(), lr=0.5 + rank), part)
    return str(error.value)


def test_ranks_have_the_numbers_that_they_have_among_all(four: Processes) -> None:
    messages = four.run(_refused_in_parts)
    assert "is 0.5 on rank 0 and 1.5 on rank 1" in messages[0]
    assert "is 2.5 on rank 2 and 3.5 on rank 3" in messages[2]


def _unreadable(rank: int) -> str:
    optimizer = SGD(layer_groups(model()), lr=0.5)
    if rank == 1:
        optimizer.param_groups[1]["lr"] = torch.empty((), device="meta")
    with pytest.raises(RuntimeError, match="the param groups of rank 1 cannot be read: ") as error:
        check_ranks(optimizer)
    distributed.barrier()  # nobody waits for another
    return str(error.value)


def test_what_one_rank_cannot_read_all_are_told(two: Processes) -> None:
    first, second = two.run(_unreadable)
    assert first == second


def _same(rank: int) -> None:
    """Groups that are the same although their parts, or the words for them, are not."""
    mesh = init_device_mesh("cpu", (2,))
    fsdp1 = FullyShardedDataParallel(model(), use_orig_params=True, device_id=torch.device("cpu"))
    assert len({tuple(p.shape) for p in fsdp1.parameters()}) > 1
    for net in (model(), shard(model(), mesh), nn.parallel.DistributedDataParallel(model()), fsdp1):
        groups = layer_groups(net)
        groups[0]["lr"] = np.float64(0.5) if rank else 0.5
        groups[1]["of_mine"] = object()
        groups[1]["numbers"] = {"b": np.int64(1), "a": {2, 1}} if rank else {"a": {1, 2}, "b": 1}
        groups[2]["betas"] = (0.5, torch.tensor(0.25))
        before = collectives()
        check_ranks(SGD(groups, lr=0.5))
        assert collectives() - before <= 2  # the length of a message, and the message
    check_ranks(torch.optim.SGD(model().parameters(), lr=0.5))
    alone = [distributed.new_group([r]) for r in range(2)][rank]
    check_ranks(SGD(model().parameters(), lr=0.5 + rank), alone)
    with pytest.raises(ValueError, match=r"'lr' of param group 0, of parameter 0 of param group 0, is 0\.5 on"):
        check_ranks(SGD(model().parameters(), lr=0.5 + rank))


def test_the_same_groups_pass(two: Processes) -> None:
    two.run(_same)


def test_one_process_has_nobody_to_disagree_with() -> None:
    check_ranks(SGD(model().parameters(), lr=0.5))
