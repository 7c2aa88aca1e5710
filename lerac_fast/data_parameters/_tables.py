"""The tables of log sigma and momentum: whole on every rank, or those of the examples in parts.

Whole, a rank finds every row in its own tables, and steps the rows that any rank has touched. In parts, it asks the
owners of rows for them, and steps the rows of its own part.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

from lerac_fast.data_parameters._rows import Rows, average_rows, gather_rows, pack_rows

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Tables:
    """Whole on every rank.

    Args:
        log_sigma, momentum: by kind of table, `"class"` or `"instance"`.
    """

    def __init__(self, log_sigma: dict[str, Tensor], momentum: dict[str, Tensor]) -> None:
        self.log_sigma, self.momentum = log_sigma, momentum

    def refusing(self) -> AbstractContextManager[None]:
        """Around what may refuse the batch of one rank, before `sigma`: an error in it is to reach every rank."""
        return nullcontext()

    def sigma(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the temperatures of the rows of each table."""
        return {kind: self.log_sigma[kind][of_kind].exp() for kind, of_kind in rows.items()}

    def collect(self, own: dict[str, Rows]) -> dict[str, Rows]:
        """Return, for each table, the rows that this rank is to step, touched by whatever rank, by their place in
        `log_sigma` and `momentum`."""
        return dict(zip(own, gather_rows(list(own.values())), strict=True))

    def read(self, kind: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return log sigma and momentum of rows that `collect` has returned."""
        return self.log_sigma[kind][rows], self.momentum[kind][rows]

    def write(self, kind: str, rows: Tensor, log_sigma: Tensor, momentum: Tensor) -> None:
        self.log_sigma[kind][rows] = log_sigma
        self.momentum[kind][rows] = momentum

    def all_finite(self, values: Tensor) -> bool:
        """Whether the new values are, on all ranks."""
        return bool(values.isfinite().all())


_REFUSED, _ASKING, _STEPPING = range(3)
_DOING = {_ASKING: "asks for the temperatures of a batch", _STEPPING: "is in step()"}


class ShardedTables(Tables):
    """Those of the examples in parts: blocks of rows, one for each rank in turn, as DTensor's Shard(0) has them.

    All ranks call the methods together. Before rows travel, each tells each how many to expect, and what it is doing,
    so that ranks that cannot go on together find out together.
    """

    def __init__(self, log_sigma: dict[str, Tensor], momentum: dict[str, Tensor]) -> None:
        super().__init__(*({kind: _own_part(table) for kind, table in of.items()} for of in (log_sigma, momentum)))
        self.count = len(log_sigma["instance"])
        self.classes = len(log_sigma["class"]) if "class" in log_sigma else 0
        self.ranks = dist.get_world_size()
        self.block = block_size(self.count, self.ranks)
        self.first = dist.get_rank() * self.block

    @contextmanager
    def refusing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._tell(_REFUSED, self.log_sigma["instance"].new_zeros(self.ranks, dtype=torch.int64))
            _gather_reasons(error)
            raise

    def sigma(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        wanted, places = rows["instance"].unique(return_inverse=True)  # in ascending order: owner by owner
        sent, received = self._announce(_ASKING, wanted)
        asked = _exchange(wanted, sent, received)
        answers = _exchange(self.log_sigma["instance"][asked - self.first], received, sent)
        whole = super().sigma({kind: of_kind for kind, of_kind in rows.items() if kind != "instance"})
        return {**whole, "instance": answers[places].exp()}

    def collect(self, own: dict[str, Rows]) -> dict[str, Rows]:
        sent, received = self._announce(_STEPPING, own["instance"].rows)
        touched = average_rows(_exchange(pack_rows(own["instance"]), sent, received), self.ranks)
        whole = {kind: rows for kind, rows in own.items() if kind != "instance"}
        whole = super().collect(whole) if whole else {}
        return {**whole, "instance": touched._replace(rows=touched.rows - self.first)}

    def all_finite(self, values: Tensor) -> bool:
        finite = values.isfinite().all().to(torch.int32)
        dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite)

    def _announce(self, doing: int, rows: Tensor) -> tuple[list[int], list[int]]:
        """Return how many of `rows`, which ascend, go to each rank, and how many come from each.

        Raises:
            ValueError: on every rank, if one has refused its batch, or they do different things or have other tables.
        """
        counts = torch.bincount(rows // self.block, minlength=self.ranks)
        of_ranks, examples, classes, received = self._tell(doing, counts)
        if _REFUSED in of_ranks:
            rank, reason = next(found for found in enumerate(_gather_reasons()) if found[1] is not None)
            raise ValueError(f"DataParameters: rank {rank} has refused its batch, so that no rank goes on: {reason}")
        _check_same(examples, "has num_instances={}".format, "Give all the same")
        _check_same(classes, lambda count: f"has num_classes={count or None}", "Give all the same")
        remedy = "All must do the same, as often: one that has no examples left gives an empty batch"
        _check_same(of_ranks, _DOING.__getitem__, remedy)
        return counts.tolist(), received

    def _tell(self, doing: int, counts: Tensor) -> list[list[int]]:
        """What each rank is doing, how many rows its tables have, and how many it sends to this one."""
        of_this = [torch.full_like(counts, value) for value in (doing, self.count, self.classes)]
        told = torch.stack([*of_this, counts], dim=1)
        heard = torch.empty_like(told)
        dist.all_to_all_single(heard, told)
        return heard.T.tolist()


def _gather_reasons(error: Exception | None = None) -> list[str | None]:
    reasons: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, None if error is None else f"{type(error).__name__}: {error}")
    return reasons


def _check_same(of_ranks: list[int], say: Callable[[int], str], remedy: str) -> None:
    for rank, of_rank in enumerate(of_ranks):
        if of_rank != of_ranks[0]:
            raise ValueError(f"DataParameters: rank 0 {say(of_ranks[0])}, and rank {rank} {say(of_rank)}. {remedy}")


def _exchange(rows: Tensor, sent: list[int], received: list[int]) -> Tensor:
    """Send so many of the first, and the next, and so on, to each rank. Return what comes, in the order of ranks."""
    found = rows.new_empty(sum(received), *rows.shape[1:])
    dist.all_to_all_single(found, rows.contiguous(), received, sent)
    return found


def whole_table(count: int, value: float) -> Tensor:
    return torch.full((count,), value, dtype=torch.float32)


def sharded_table(count: int, value: float) -> Tensor:
    """A DTensor in blocks, of which this rank makes its own."""
    if not (dist.is_available() and dist.is_initialized()):
        raise RuntimeError(
            "DataParameters: shard=True shares the temperatures out among processes: start them with torchrun, and "
            "call torch.distributed.init_process_group first; or leave shard=True out"
        )
    from torch.distributed.device_mesh import init_device_mesh  # which take half a second to import
    from torch.distributed.tensor import Shard, full

    mesh = init_device_mesh(_device_type(), (dist.get_world_size(),))
    return full((count,), value, dtype=torch.float32, device_mesh=mesh, placements=[Shard(0)])


def _device_type() -> str:
    """The CPU's, if the process group serves it, as tables follow the module to its device."""
    accelerator = torch.accelerator.current_accelerator()
    return "cpu" if accelerator is None or "cpu:" in dist.get_backend_config() else accelerator.type


def laid_out_like(table: Tensor, value: Tensor) -> Tensor:
    """Return `value`, sharded or whole, as `table` is. All ranks together, where it is to be gathered."""
    if getattr(value, "shape", None) != table.shape:
        return value  # which the module refuses
    if _is_sharded(value) and not _is_sharded(table):
        return value.full_tensor()
    if _is_sharded(table) and not _is_sharded(value):
        first = dist.get_rank() * block_size(len(table), dist.get_world_size())
        return type(table).from_local(
            value[first : first + len(table.to_local())].clone(),  # lest it hold on to all of the value
            table.device_mesh,
            table.placements,
            run_check=False,
            shape=table.shape,
            stride=table.stride(),
        )
    return value


def block_size(count: int, ranks: int) -> int:
    """The last blocks may be shorter, or empty."""
    return -(-count // ranks)


def _own_part(table: Tensor) -> Tensor:
    return table.to_local() if _is_sharded(table) else table


def _is_sharded(table: Tensor) -> TypeGuard[DTensor]:
    module = sys.modules.get("torch.distributed.tensor")  # where nobody has imported it, there are no DTensors
    return module is not None and isinstance(table, module.DTensor)
