"""csrc/engine/rules.h is the list of update rules and optimizers; what cannot follow by itself is not forgotten."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from benchmarks.bench_optimizer_step import OPTIONS, UPDATED
from lerac_fast._native.extension import extension
from tests.kernels import KERNELS
from tests.optim.cases import CASES, TYPICAL
from tests.reference import optimizers as reference

OPTIMIZERS = sorted(name for name in lerac_fast.optim.__all__ if isinstance(getattr(lerac_fast.optim, name), type))


def test_every_rule_has_a_formula_in_triton() -> None:
    triton_math = pytest.importorskip("lerac_fast._triton._math")
    assert sorted(triton_math.RULES) == sorted(extension.RULES)


def test_every_optimizer_of_the_engine_is_public() -> None:
    kinds = {getattr(lerac_fast.optim, name)._kind.name for name in OPTIMIZERS}
    assert kinds == set(extension.Optimizer.__members__)


@pytest.mark.parametrize("declared", [{case.name for case in CASES}, {case.name for case in TYPICAL}, OPTIONS, UPDATED])
def test_every_optimizer_is_tested_and_timed(declared: Any) -> None:
    assert sorted(declared) == OPTIMIZERS


@pytest.fixture
def seen() -> Iterator[dict[str, int]]:
    """The rules of the steps meanwhile, which change nothing, and how many of a row's addresses are of states."""
    rules: dict[str, int] = {}

    def update(packed: Any) -> None:
        row = torch.frombuffer(bytearray(packed.rows), dtype=torch.int64)[:9]
        rules[packed.rule] = int((row[2:5] != 0).sum())

    cpu = torch.device("cpu")
    extension.choose_python_backend(cpu, update, lambda _: False, asynchronous=False)
    yield rules
    extension.choose_compiled_backend(cpu)


@pytest.mark.skipif(KERNELS == "triton", reason="would put the compiled kernels in the place of Triton's")
def test_every_rule_is_tested_with_its_states(seen: dict[str, int]) -> None:
    for case in CASES:
        param = nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer = case.fast([param])
        optimizer.step()
        expected = reference.new_state(case.name, param, optimizer.param_groups[0])
        states = list(optimizer.state[param])
        assert states == (list(expected) or ["momentum_buffer"] * len(states))
    assert seen == extension.RULES
