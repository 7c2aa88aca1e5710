"""What `DataParameters` refuses: options and batches that make no sense, with the value in the message."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor


def check_number(name: str, value: float, interval: str) -> None:
    """`interval` is in the notation of mathematics: `"[0, 1)"` includes 0 and excludes 1. NaN is in none."""
    if not _is_number(value, Real):
        raise TypeError(f"DataParameters: {name} must be a number, not {value!r}")
    lowest, highest = (float(bound) for bound in interval[1:-1].split(","))
    above = value >= lowest if interval[0] == "[" else value > lowest
    below = value <= highest if interval[-1] == "]" else value < highest
    if not (above and below):
        raise ValueError(f"DataParameters: {name}={value!r} must be in {interval}")


def check_integer(name: str, value: int) -> None:
    if not _is_number(value, int):
        raise TypeError(f"DataParameters: {name} must be an integer, not {value!r}")


def check_clamp(clamp: tuple[float, float] | None) -> None:
    if clamp is None:
        return
    if not _is_pair(clamp):
        raise TypeError(f"DataParameters: clamp must be a pair of numbers or None, not {clamp!r}")
    lowest, highest = clamp
    if not 0 < lowest <= highest:
        raise ValueError(f"DataParameters: clamp={clamp!r} must be (lowest, highest) sigma, above 0")


def check_sizes(num_classes: int | None, num_instances: int | None) -> None:
    if num_classes is None and num_instances is None:
        raise ValueError("DataParameters: give num_classes, num_instances or both; with neither nothing is learned")
    for name, count in (("num_classes", num_classes), ("num_instances", num_instances)):
        if count is not None:
            check_integer(name, count)
            check_number(name, count, "[1, inf)")


def check_shard(shard: bool, num_instances: int | None) -> None:
    if not isinstance(shard, bool):
        raise TypeError(f"DataParameters: shard must be True or False, not {shard!r}")
    if shard and num_instances is None:
        raise ValueError("DataParameters: shard=True is for the temperatures of examples: give num_instances")


def check_weight(weight: Tensor | None, num_classes: int | None) -> None:
    if weight is None:
        return
    check_tensor("weight", weight)
    if not weight.is_floating_point() or weight.ndim != 1 or num_classes not in (None, len(weight)):
        classes = "C" if num_classes is None else num_classes
        raise ValueError(f"DataParameters: weight must be floating point numbers [{classes}], not {_kind(weight)}")


def check_logits(logits: Tensor, targets: Tensor, num_classes: int | None) -> None:
    check_tensor("logits", logits)
    if not logits.is_floating_point() or logits.ndim != 2 or num_classes not in (None, logits.shape[1]):
        classes = "C" if num_classes is None else num_classes
        raise ValueError(f"DataParameters: logits must be floating point numbers [N, {classes}], not {_kind(logits)}")
    check_integers("targets", targets)
    check_lengths("targets", targets, "logits", logits)


def check_tensor(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"DataParameters: {name} must be a tensor, not {type(tensor).__name__}")


def check_integers(name: str, rows: Tensor) -> None:
    check_tensor(name, rows)
    if rows.dtype != torch.int64 or rows.ndim != 1:
        raise ValueError(f"DataParameters: {name} must be int64 [N], not {_kind(rows)}")


def check_bounds(name: str, rows: Tensor, count: int) -> None:
    if len(rows) == 0:
        return
    lowest, highest = (int(bound) for bound in rows.aminmax())
    if lowest < 0 or highest >= count:
        raise ValueError(
            f"DataParameters: {name} must be from 0 to {count - 1}, not {lowest if lowest < 0 else highest}"
        )


def check_lengths(name: str, rows: Tensor, other_name: str, others: Tensor) -> None:
    if len(rows) != len(others):
        raise ValueError(f"DataParameters: {len(rows)} {name} do not match {len(others)} {other_name}")


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(_is_number(bound, Real) for bound in value)


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} of shape {list(tensor.shape)}"
