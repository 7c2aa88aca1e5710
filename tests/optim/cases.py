"""One declaration per optimizer; the tests expand the variants."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lerac_fast.optim
from lerac_fast.optim.lion import _PlainLion
from tests.kernels import NUMBERS_ON_DEVICE


@dataclass(frozen=True)
class Case:
    """An optimizer and one setting of its options."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.options.items())]).replace(" ", "")

    def fast(self, params: Iterable[Any], lr: float = 0.02, **options: Any) -> torch.optim.Optimizer:
        return getattr(lerac_fast.optim, self.name)(params, lr=lr, **(self.options | options))

    def fused(self, params: Iterable[Any], **options: Any) -> torch.optim.Optimizer:
        """An optimizer to which a GradScaler leaves the division by the loss scale, as to torch's with fused=True."""
        if self.name != "Adamax":
            return self.fast(params, fused=True, **options)
        optimizer = self.fast(params, **options)  # torch's Adamax has no such option
        optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]
        return optimizer

    @property
    def is_of_torch(self) -> bool:
        """Whether torch.optim has an optimizer of this name, with options such as foreach and differentiable."""
        return hasattr(torch.optim, self.name)

    @property
    def parent(self) -> type[torch.optim.Optimizer]:
        """The class that steps what the kernels do not serve."""
        parent: type[torch.optim.Optimizer] = getattr(torch.optim, self.name) if self.is_of_torch else _PlainLion
        return parent

    def torch(self, params: Iterable[Any], lr: float = 0.02, **options: Any) -> torch.optim.Optimizer:
        """The parent's single-tensor implementation, in torch's operations."""
        single = {"foreach": False} if self.is_of_torch else {}
        return self.parent(params, lr=lr, **(single | self.options | options))


_VARIANTS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.05},
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05},
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.05},
        {"momentum": 0.9, "weight_decay": 0.05, "maximize": True},
    ],
    "Adam": [
        {"weight_decay": 0.05},
        {"betas": (0.4, 0.7), "eps": 1e-3, "weight_decay": 0.05},
        {"amsgrad": True, "weight_decay": 0.05},
        {"weight_decay": 0.05, "maximize": True},
        {"weight_decay": 0.05, "decoupled_weight_decay": True},
    ],
    "AdamW": [
        {"weight_decay": 0.3},
        {"amsgrad": True, "weight_decay": 0.3},
        {"weight_decay": 0.3, "maximize": True},
    ],
    "Adamax": [
        {"weight_decay": 0.05},
        {"betas": (0.6, 0.8), "eps": 1e-3, "weight_decay": 0.05},
        {"weight_decay": 0.05, "maximize": True},
    ],
    "Lion": [
        {"weight_decay": 0.3},
        {"betas": (0.4, 0.7), "weight_decay": 0.3},
        {"weight_decay": 0.3, "maximize": True},
    ],
}
CASES = [Case(name, options) for name, variants in _VARIANTS.items() for options in variants]
# One typical setting of each optimizer, for tests of what all settings share.
TYPICAL = [
    Case("SGD", {"momentum": 0.9, "weight_decay": 0.05}),
    Case("Adam", {"weight_decay": 0.05}),
    Case("AdamW", {"weight_decay": 0.3}),
    Case("Adamax", {"weight_decay": 0.05}),
    Case("Lion", {"weight_decay": 0.3}),
]
# Those that count their steps in state["step"].
COUNTING = [case for case in TYPICAL if case.name not in ("SGD", "Lion")]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]

all_cases = pytest.mark.parametrize("case", CASES, ids=str)
typical_cases = pytest.mark.parametrize("case", TYPICAL, ids=str)
cases_of_torch = pytest.mark.parametrize("case", [case for case in TYPICAL if case.is_of_torch], ids=str)
all_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))


def random(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """The same numbers for every dtype, up to its rounding."""
    return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype)


def groups(params: list[nn.Parameter], lr: float = 0.02) -> list[dict[str, Any]]:
    """A group per parameter, each with a learning rate of its own."""
    return [{"params": [param], "lr": lr * (1 + i / 3)} for i, param in enumerate(params)]


def assert_as_good_as_none(state: dict[str, Any]) -> None:
    """A state that a first step would find, or what it may leave where only the device knows that it did not count."""
    assert NUMBERS_ON_DEVICE or not state
    assert all((value == 0).all() for value in state.values())


def assert_equal(actual: Tensor, expected: Tensor) -> None:
    """Bit for bit, NaN where NaN."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
