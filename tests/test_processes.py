"""The processes of the tests: one that fails, fails the test, and leaves no other waiting."""

import os

import pytest
import torch
from torch import distributed

from tests.processes import Processes


def _sum(rank: int, value: float) -> float:
    tensor = torch.tensor(value + rank)
    distributed.all_reduce(tensor)
    return tensor.item()


def _one_fails(rank: int) -> None:
    if rank == 1:
        raise ValueError("what rank 1 says")
    distributed.barrier()


def _one_dies(rank: int) -> None:
    if rank == 1:
        os._exit(1)
    distributed.barrier()


def test_processes(two: Processes) -> None:
    assert two.run(_sum, 0.5) == [2.0, 2.0]
    with pytest.raises(AssertionError, match=r"(?s)rank 1 of 2:.*what rank 1 says"):
        two.run(_one_fails)
    assert two.run(_sum, 1.5) == [4.0, 4.0]
    with pytest.raises(AssertionError, match=r"rank 1 has died|rank 0 of 2"):
        two.run(_one_dies)
