"""The same bits whatever the number of threads, the instruction set, or the place of an element."""

import pytest
import torch
from torch import nn

import lerac_fast
from tests.determinism import (
    assert_same_for_any_number_of_threads,
    assert_same_for_any_number_of_threads_that_flush,
    assert_same_on_all_instruction_sets,
    python,
)
from tests.optim.cases import CASES, Case, all_cases, all_dtypes, assert_equal, groups, random, typical_cases


def train(case: Case, dtype: torch.dtype) -> list[torch.Tensor]:
    """Enough elements for several threads, in tensors of awkward sizes."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(70001,), (3,), (257, 129), (1,), (33333,)]
    params = [nn.Parameter(random(shape, dtype, generator)) for shape in shapes]
    optimizer = case.fast(groups(params))
    for _ in range(2):
        for param in params:
            param.grad = random(tuple(param.shape), dtype, generator)
        optimizer.step()
    tensors = [p.detach() for p in params]
    return tensors + [v for p in params for v in optimizer.state[p].values()]


@all_cases
@all_dtypes
def test_thread_count(case: Case, dtype: torch.dtype) -> None:
    assert_same_for_any_number_of_threads(lambda: train(case, dtype))


@typical_cases
@all_dtypes
def test_thread_count_where_subnormal_numbers_are_flushed(case: Case, dtype: torch.dtype) -> None:
    """torch.set_flush_denormal sets the calling thread only; its helpers do as it does."""
    least = torch.finfo(dtype).smallest_normal

    def sample() -> list[torch.Tensor]:
        params = [nn.Parameter(torch.full((200_000,), least, dtype=dtype)) for _ in range(2)]
        optimizer = case.fast(params, lr=0.3)
        for param in params:
            param.grad = torch.full_like(param, least / 2)
        optimizer.step()
        return [param.detach() for param in params] + [v for p in params for v in optimizer.state[p].values()]

    assert_same_for_any_number_of_threads_that_flush(sample)


def train_all() -> list[torch.Tensor]:
    """Every case and dtype, on this process's instruction set."""
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    return [tensor for case in CASES for dtype in dtypes for tensor in train(case, dtype)]


def test_instruction_sets() -> None:
    """Every one that this machine has gives the bits of the plainest."""
    assert_same_on_all_instruction_sets("m.train_all()", "tests.optim.test_determinism")


def test_unknown_instruction_set_is_refused() -> None:
    run = python("import lerac_fast", "mmx")
    assert run.returncode != 0
    assert "LERAC_FAST_CPU_CAPABILITY is 'mmx'; available here: baseline" in run.stderr


@all_cases
@all_dtypes
def test_equal_elements_get_equal_results(case: Case, dtype: torch.dtype) -> None:
    """In vector bodies and tails alike."""
    params = [nn.Parameter(torch.full((size,), 0.7, dtype=dtype)) for size in (*range(1, 70), 1000, 40001)]
    optimizer = case.fast(params)
    for step in range(3):
        for param in params:
            param.grad = torch.full_like(param, 0.3 - 0.2 * step)
        optimizer.step()
    for param in params:
        assert_equal(param.detach(), params[0].detach().expand_as(param))
        for key, value in optimizer.state[param].items():
            assert_equal(value, optimizer.state[params[0]][key].expand_as(value))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_rounding_of_every_number(dtype: torch.dtype) -> None:
    """p - lr * g with p = 0 and lr = -1 is a conversion: every 16-bit number there and every float32 pattern back."""
    everything = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    param = nn.Parameter(torch.zeros_like(everything))
    param.grad = everything.clone()
    lerac_fast.optim.SGD([param], lr=1.0, maximize=True).step()
    assert_equal(param.detach(), everything + 0)  # -0 + 0 is 0

    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (2**20,), generator=generator).to(torch.int32)
    halfway = (bits & ~0xFFFF) | 0x8000  # ties, for bfloat16
    near = ((torch.rand(2**20, generator=generator) * 0.002).view(torch.int32) & ~0x1FFF) | 0x1000  # and for float16
    for pattern in (bits, halfway, halfway + 1, halfway - 1, near, near + 1, near - 1):
        values = pattern.view(torch.float32)
        # m = 0 + (1 - 0) * g with a float32 gradient does not exist; the state of SGD does: buffer = 1 * buffer + g.
        param = nn.Parameter(torch.zeros(len(values), dtype=dtype))
        param.grad = torch.zeros_like(param)
        optimizer = lerac_fast.optim.SGD([param], lr=1.0, momentum=1.0, maximize=True)
        optimizer.state[param]["momentum_buffer"] = -values  # p -= 1 * (1 * -values + 0)
        optimizer.step()
        assert_equal(param.detach() + 0, values.to(dtype) + 0)


def test_small_halves_where_subnormal_floats_are_flushed() -> None:
    """torch.set_flush_denormal takes subnormal float32 numbers for zero; a small float16 is none in float32."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        param = nn.Parameter(torch.tensor([3e-5, 1e-5, 6e-8, 1.0], dtype=torch.float16))
        param.grad = torch.tensor([1e-5, 2e-5, 0.0, 3e-5], dtype=torch.float16)
        expected = (param.detach().double() - param.grad.double()).half()
        lerac_fast.optim.SGD([param], lr=1.0).step()
        assert_equal(param.detach(), expected)
    finally:
        torch.set_flush_denormal(False)
