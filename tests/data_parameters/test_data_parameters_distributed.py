"""DataParameters over two gloo processes: the same bits on both, those of the union, and only touched rows travel."""

import math
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from tests.data_parameters.batches import (
    CLASSES,
    Batch,
    assert_matches,
    assert_same_bits,
    random_batch,
    tables,
    with_reference,
)

WORLD = 2
INSTANCES = 10_000  # of which the batches have 12

# Examples of each backward pass, by rank: [step][rank][pass].
STEPS = [
    [[8], [8]],
    [[9], [4]],  # unequal
    [[6], [0]],  # an empty batch
    [[5], []],  # nothing at all
    [[3, 7], [5]],  # gradients accumulate on one
    [[], []],
    [[2], [6]],
]
BROKEN = 1  # before this step comes another, in which rank 1 has a loss that is not a number


def batches(step: int, rank: int) -> list[Batch]:
    """Classes and indices of the ranks overlap."""
    return [random_batch(100 * step + 10 * rank + i, n, ignore=-1) for i, n in enumerate(STEPS[step][rank])]


OPTIONS = {
    class_gradient: {
        "num_classes": CLASSES,
        "num_instances": INSTANCES,
        "weight_decay": 0.05,
        "ignore_index": -1,
        "class_gradient": class_gradient,
    }
    for class_gradient in ("class_mean", "batch_mean")
}


def train(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    try:
        torch.save({name: states(rank, options) for name, options in OPTIONS.items()}, folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def states(rank: int, options: dict[str, Any]) -> list[dict[str, Tensor]]:
    """The tables after each step, in which no more bytes leave the rank than the rows that it has touched need."""
    criterion, _ = with_reference(**options)
    found: list[dict[str, Tensor]] = []
    for step in range(len(STEPS)):
        if step == BROKEN:
            logits, targets, indices = random_batch(77, 4)
            (criterion(logits, targets, indices) * (math.nan if rank == 1 else 1.0)).backward()
            criterion.step()
            assert_same_bits(tables(criterion), found[-1])
        for batch in batches(step, rank):
            criterion(*batch).backward()
        with mock.patch.object(dist, "all_gather", wraps=dist.all_gather) as all_gather:
            criterion.step()
        # Row, gradient and share in 8 bytes each, padded to those of the other rank, and the lengths for each table.
        most = max(sum(examples) for examples in STEPS[step])
        assert sum(call.args[1].nbytes for call in all_gather.mock_calls) <= 2 * most * 24 + 2 * 8
        found.append(tables(criterion))
    return found


def test_two_processes_hold_the_bits_of_the_union(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    mp.spawn(train, (tmp_path,), nprocs=WORLD)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    for name, options in OPTIONS.items():
        criterion, expected = with_reference(**options)
        for step, (first, second) in enumerate(zip(*(rank[name] for rank in ranks), strict=True)):
            assert_same_bits(first, second)
            expected.step([batches(step, rank) for rank in range(WORLD)])
            criterion.load_state_dict(first)
            assert_matches(criterion, expected)


def test_one_process_exchanges_nothing(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        found, expected = with_reference(num_classes=CLASSES, num_instances=INSTANCES)
        batch = random_batch(0, 8)
        found(*batch).backward()
        found.step()
        expected.step([[batch]])
        assert_matches(found, expected)
    finally:
        dist.destroy_process_group()
