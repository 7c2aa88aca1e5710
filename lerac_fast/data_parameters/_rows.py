"""The rows of tables that batches touch: their gradients, noted, added up row by row, and exchanged between ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


class Rows(NamedTuple):
    """Gradients for some rows of a table. A row that occurs several times gets their sum."""

    rows: Tensor
    """int64 `[n]`"""
    gradients: Tensor
    """float32 `[n]`"""
    shares: Tensor
    """float32 `[n]`, how much each counts in the loss: 1 / B in the average over a batch of B."""


class NoteRows:
    """A hook on the temperatures of examples: appends the gradients for log sigma, of every table, to `noted`.

    It holds neither a module nor the graph, so that a loss without a backward pass leaves nothing behind.

    Args:
        rows, sigmas: by table, the rows of the examples `[n]` and their part of the temperature `[n]`.
        counted: bool `[n]`, which of the examples are in the batch; None, all.
        examples: what the loss divides the sum over examples by; None, how many are in the batch.
    """

    def __init__(
        self,
        noted: list[dict[str, Rows]],
        rows: dict[str, Tensor],
        sigmas: dict[str, Tensor],
        counted: Tensor | None,
        examples: Tensor | float | None,
    ) -> None:
        self.noted, self.rows, self.sigmas = noted, rows, sigmas
        self.counted, self.examples = counted, examples

    @torch.no_grad()
    def __call__(self, gradient: Tensor) -> None:
        counted = slice(None) if self.counted is None else self.counted
        gradient = gradient[counted]
        shares = torch.ones_like(gradient) / (len(gradient) if self.examples is None else self.examples)
        self.noted.append(
            {
                kind: Rows(rows[counted], gradient * self.sigmas[kind][counted], shares)
                for kind, rows in self.rows.items()
            }
        )


def sum_rows(parts: Sequence[Rows]) -> Rows:
    """Return the rows that occur, each of them once, in ascending order, with the sums of their gradients and shares.

    The order of the additions depends on `parts` alone, so that ranks come to the same bits. They are sorted for that:
    index_add_ on a GPU adds in an order that changes from run to run.
    """
    rows, gradients, shares = (torch.cat(column) for column in zip(*parts, strict=True))
    if len(rows) == 0:
        return Rows(rows, gradients, shares)
    ordered, order = rows.sort(stable=True)
    present, counts = ordered.unique_consecutive(return_counts=True)
    values = torch.stack([gradients, shares], dim=1)[order]
    sums = torch.segment_reduce(values, "sum", lengths=counts, axis=0)
    return Rows(present, *sums.unbind(1))


def gather_rows(own: Sequence[Rows]) -> list[Rows]:
    """Return, for each of several tables, the rows of all ranks, with the gradients of the average of their losses.

    Every rank must call it, and gets the same bits. What travels is the rows, padded to the most that any rank has, and
    not the tables. Without torch.distributed it returns `own`.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return list(own)
    lengths = [tensor.tolist() for tensor in _all_gather(own[0].rows.new_tensor([len(part.rows) for part in own]))]
    most = max(sum(of_rank) for of_rank in lengths)
    if most == 0:
        return list(own)
    packed = torch.cat([pack_rows(part) for part in own])
    tensors = _all_gather(F.pad(packed, (0, 0, 0, most - len(packed))))
    by_rank = [tensor[: sum(of_rank)].split(of_rank) for tensor, of_rank in zip(tensors, lengths, strict=True)]
    return [average_rows(torch.cat(of_table), len(tensors)) for of_table in zip(*by_rank, strict=True)]


def pack_rows(part: Rows) -> Tensor:
    """Return one tensor for all, `[n, 3]`: float64 holds the numbers of rows exactly, up to 2^53."""
    return torch.stack([column.double() for column in part], dim=1)


def average_rows(packed: Tensor, ranks: int) -> Rows:
    """Return what `pack_rows` has packed on all ranks, in their order, with the gradients of the average of losses."""
    rows, gradients, shares = packed.unbind(1)
    return sum_rows([Rows(rows.long(), (gradients / ranks).float(), (shares / ranks).float())])


def _all_gather(own: Tensor) -> list[Tensor]:
    tensors = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(tensors, own)
    return tensors
