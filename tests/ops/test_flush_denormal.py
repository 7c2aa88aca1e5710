"""torch.set_flush_denormal sets the calling thread only; the threads that help it do as it does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lerac_fast import gaussian_smooth, tempered_cross_entropy
from tests.determinism import assert_same_for_any_number_of_threads_that_flush
from tests.kernels import KERNELS

pytestmark = pytest.mark.skipif(KERNELS != "cpu", reason="about the CPU's threads")
LEAST = torch.finfo(torch.float32).smallest_normal


def smoothed() -> list[Tensor]:
    return [gaussian_smooth(torch.full((64, 4, 24, 24), LEAST), 1.0)]  # a sum of products that are subnormal


def losses_and_gradients() -> list[Tensor]:
    logits = torch.zeros(2000, 100, requires_grad=True)
    loss = tempered_cross_entropy(logits, torch.zeros(2000, dtype=torch.int64), torch.ones(2000), reduction="none")
    (gradient,) = torch.autograd.grad(loss, logits, torch.full_like(loss, LEAST))  # of which each class has 1%
    return [loss.detach(), gradient]


@pytest.mark.parametrize("sample", [smoothed, losses_and_gradients])
def test_thread_count(sample: Callable[[], list[Tensor]]) -> None:
    assert_same_for_any_number_of_threads_that_flush(sample)
