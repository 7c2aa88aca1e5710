from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

class Optimizer:
    """An enumeration; csrc/engine/rules.h lists its members."""

    __members__: ClassVar[dict[str, Optimizer]]

class Step:
    def __init__(self, optimizer: Optimizer) -> None: ...
    def __call__(
        self,
        param_groups: list[dict[str, Any]],
        state: dict[Any, Any],
        grad_scale: Tensor | float | None,
        found_inf: Tensor | float | None,
        step_unserved: Callable[[list[tuple[int, int, str]]], None],
    ) -> None: ...

def why_traced() -> str | None: ...
def is_profiled() -> bool: ...
def check_param_group(optimizer: Optimizer, param_group: dict[str, Any], index: int) -> None: ...

RULES: dict[str, int]
"""The update rules, by the names of their functors in csrc/math -> how many states they have."""
NUMBERS: tuple[str, ...]
RENEWALS_WITHOUT_WALK: int
"""The hyperparameters, as they stand in PackedTable.numbers."""

class PackedTable:
    """A TensorTable as a backend in Python sees it: csrc/engine/python_backend.h."""

    device: torch.device
    rule: str
    elements: int
    rows: bytes
    numbers: bytes
    rates: bytes
    grad_scale: int
    found_inf: int
    kept: Any

def choose_python_backend(
    device: torch.device,
    update: Callable[[PackedTable], None],
    is_capturing: Callable[[torch.device], bool],
    asynchronous: bool,
) -> None: ...
def choose_compiled_backend(device: torch.device) -> None: ...
def has_compiled_backend(device: torch.device) -> bool: ...
def driver_versions(device: torch.device) -> tuple[int, int]:
    """The version of CUDA that the driver of this machine has, 0 without one, and that the compiled backend needs."""

def launches() -> int: ...
def overlapping_launches() -> int: ...
def let_launches_overlap(on: bool) -> bool:
    """Returns what was the case before."""

def gaussian_sum(radius: int, sigma: float) -> float: ...
def gaussian_weights(x: Tensor, sigma: Tensor, kernel_size: int, dims: list[int]) -> list[float]: ...
def gaussian_sweeps(x: Tensor, dims: list[int]) -> list[tuple[int, int, int, int, int, bool, bool]]: ...
def check_tempered_cross_entropy(
    logits: Tensor, targets: Tensor, sigma: Tensor, weight: Tensor | None, reduction: str, label_smoothing: float
) -> None: ...
def check_tempered_cross_entropy_backward(
    gradient: Tensor,
    logits: Tensor,
    targets: Tensor,
    sigma: Tensor,
    weight: Tensor | None,
    statistics: Tensor,
    label_smoothing: float,
) -> None: ...

compiler: str

def cpu_capability() -> str: ...
def available_cpu_capabilities() -> list[str]: ...
