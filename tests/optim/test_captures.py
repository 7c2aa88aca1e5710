"""What a step does while a graph is being captured, on the CPU by a backend that says so; tests/gpu has real graphs."""

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from lerac_fast._native.extension import extension
from tests.kernels import KERNELS
from tests.optim.cases import Case

pytestmark = pytest.mark.skipif(KERNELS != "cpu", reason="puts a backend in the place of the CPU's own")


@pytest.fixture
def tables() -> Iterator[list[Any]]:
    """Those that the backend was given, each of which would be a launch."""
    launched: list[Any] = []
    cpu = torch.device("cpu")
    extension.choose_python_backend(cpu, launched.append, is_capturing=lambda _: True, asynchronous=True)
    yield launched
    extension.choose_compiled_backend(cpu)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("SGD", {"momentum": 0.9}), "no state yet. Take a step before"),
        (Case("Lion"), "no state yet"),
        (Case("Adam", {"capturable": True}), "no state yet"),
    ],
    ids=str,
)
def test_refused(case: Case, reason: str, tables: list[Any]) -> None:
    """By name, and nothing has changed."""
    param = nn.Parameter(torch.ones(5, 4))
    param.grad = torch.ones(5, 4)
    optimizer = case.fast([param])
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=rf"parameter 0, float32 of shape \[5, 4\] on cpu: a graph is being captured.*{reason}"
        ):
            optimizer.step()
        assert not tables
        assert not any(optimizer.state.values())


def test_sgd_without_momentum_is_captured_at_once(tables: list[Any]) -> None:
    param = nn.Parameter(torch.ones(5))
    param.grad = torch.ones(5)
    Case("SGD").fast([param]).step()
    assert len(tables) == 1


def test_what_graphs_copy_is_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the host, for a graph reads it at each replay; the memory on the device is the graph's own."""
    pytest.importorskip("triton")
    from lerac_fast._triton.optimizer_step import Array

    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda host: host)
    array, first, other = Array(torch.int64, torch.device("meta")), bytes(16), bytes([1] * 16)
    there = [weakref.ref(array.holding(contents)) for contents in (first, other, first)]
    assert [tensor() for tensor in there] == [None] * 3
    assert {contents: host.tolist() for contents, host in array.captured.items()} == {
        first: [0, 0],
        other: [0x0101010101010101] * 2,
    }
