"""DTensors, and beside them what one process would have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, distribute_tensor

from tests.optim.cases import Case, assert_equal, groups, random


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def collectives() -> int:
    """How many this process has begun."""
    group = distributed.distributed_c10d._get_default_group()
    return group._get_sequence_number_for_group()


def full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@dataclass
class Twins:
    """Parameters that are DTensors, each on its mesh or none, and the same in one process."""

    case: Case
    params: list[nn.Parameter]
    whole: list[nn.Parameter]
    layouts: list[tuple[DeviceMesh, Sequence[Placement]] | None]
    ours: torch.optim.Optimizer
    expected: torch.optim.Optimizer
    random: torch.Generator

    @staticmethod
    def of(
        case: Case,
        shapes: Sequence[tuple[int, ...]],
        layouts: Sequence[tuple[DeviceMesh, Sequence[Placement]] | None],
        dtype: torch.dtype = torch.float32,
        make: str = "fast",
        **options: Any,
    ) -> "Twins":
        """
        Args:
            make: of the optimizer for the DTensors: a method of the case.
        """
        numbers = generator()
        whole = [nn.Parameter(random(shape, dtype, numbers)) for shape in shapes]
        params = [nn.Parameter(_laid_out(p.detach().clone(), layout)) for p, layout in zip(whole, layouts, strict=True)]
        ours, expected = getattr(case, make)(groups(params), **options), case.fast(groups(whole), **options)
        return Twins(case, params, whole, list(layouts), ours, expected, numbers)

    def set_gradients(self, layouts: Sequence[tuple[DeviceMesh, Sequence[Placement]] | None] | None = None) -> None:
        """Laid out as the parameters are, if not told otherwise."""
        for param, twin, layout in zip(self.params, self.whole, layouts or self.layouts, strict=True):
            twin.grad = random(tuple(twin.shape), twin.dtype, self.random)
            param.grad = _laid_out(twin.grad.clone(), layout)

    def step(self) -> None:
        self.ours.step()
        self.expected.step()

    def check(self) -> None:
        """Bit for bit; and states lie as their parameters do."""
        for param, twin in zip(self.params, self.whole, strict=True):
            assert_equal(full(param.detach()), twin.detach())
            state, expected = self.ours.state[param], self.expected.state[twin]
            assert list(state) == list(expected)
            for key, value in state.items():
                assert_equal(full(value), expected[key])
                assert type(value) is (type(param.data) if key != "step" else Tensor)
                if isinstance(value, DTensor):
                    assert value.placements == param.placements
                    assert value.device_mesh == param.device_mesh
                    assert (value.shape, value.stride()) == (param.shape, param.stride())
                    assert value.to_local().shape == param.to_local().shape


def _laid_out(tensor: Tensor, layout: tuple[DeviceMesh, Sequence[Placement]] | None) -> Tensor:
    return tensor if layout is None else distribute_tensor(tensor, *layout)
