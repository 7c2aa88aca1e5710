"""One training on several processes, as torchrun starts them; or on one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

_T = TypeVar("_T")


class Ranks:
    """The processes of a training. One, unless torchrun started more."""

    def __init__(self, rank: int = 0, count: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.count = rank, count
        self.device = device or torch.device("cpu")

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    def share(self, numbers: list[int]) -> list[int]:
        """This rank's share of a batch."""
        return numbers[self.rank :: self.count]

    def gather(self, value: _T) -> list[_T]:
        """The values of all ranks, on all ranks."""
        if self.count == 1:
            return [value]
        values: list[_T | None] = [None] * self.count
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def decide(self, value: _T) -> _T:
        """The first rank's value, on all ranks."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def synchronise(self, model: nn.Module) -> None:
        """Gives all ranks the first one's buffers: the statistics of batch norms are those of each rank's examples, and
        DistributedDataParallel makes them equal at the start of a training step only."""
        if self.count > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with gradients averaged over the ranks."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, device_ids=[self.device] if self.device.type == "cuda" else None)


@contextmanager
def started(device: str) -> Iterator[Ranks]:
    """The ranks of this process's training on `device`: auto, cpu or cuda."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if name == "cuda":
        torch.backends.cudnn.deterministic = True  # so that an interrupted trial goes on as if it had not been
    if not dist.is_torchelastic_launched():
        yield Ranks(device=torch.device(name))
        return
    local = torch.device(name, int(os.environ["LOCAL_RANK"])) if name == "cuda" else torch.device(name)
    if local.type == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if name == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), local)
    finally:
        dist.destroy_process_group()
