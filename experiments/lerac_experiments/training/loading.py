"""Batches, in the order of a trial's seed."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.training.distributed import Ranks


def load(examples: Examples, batches: list[list[int]], ranks: Ranks, workers: int) -> Iterator[Batch]:
    """This rank's share of each batch. So many `workers` are processes that load them; none, this one does."""
    shares = [share for batch in batches if (share := ranks.share(batch))]
    loaded: Iterator[Batch] = map(examples.__getitems__, shares)
    if workers > 0:
        loaded = iter(
            DataLoader(
                examples,
                batch_sampler=shares,
                collate_fn=_as_it_is,
                num_workers=workers,
                pin_memory=ranks.device.type == "cuda",
                generator=torch.Generator().manual_seed(0),  # else it takes a number from the stream of dropout
            )
        )
    return loaded


def consecutive(count: int, size: int) -> list[list[int]]:
    """The numbers below `count` in batches of at most `size`."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def shuffled(count: int, purpose: str, seed: int) -> list[int]:
    """The numbers below `count`, in the order of a purpose and a seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derived(purpose, seed))).tolist()


def derived(purpose: str, seed: int) -> int:
    """A seed of its own for each purpose."""
    return int.from_bytes(hashlib.sha256(f"{purpose}, {seed}".encode()).digest()[:7], "big")


def _as_it_is(batch: Any) -> Any:
    return batch
