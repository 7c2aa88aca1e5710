"""Numbers are stored in 16 bits as IEEE 754 rounds them."""

import pytest
import torch
from torch import Tensor, nn

from lerac_fast.optim import SGD
from tests.reference.rounding import rounded

both_dtypes = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


def floats(bits: Tensor) -> Tensor:
    """The float32 of these bits, which are integers from 0 to 2^32 - 1."""
    return torch.where(bits < 2**31, bits, bits - 2**32).int().view(torch.float32)


def assert_stored_rounded(numbers: Tensor, dtype: torch.dtype) -> None:
    """By SGD, as 0 - 1 x (1 x momentum + 0 x gradient), where the momentum alone is not of 16 bits."""
    param = nn.Parameter(torch.zeros_like(numbers, dtype=dtype))
    param.grad = torch.zeros_like(param)
    optimizer = SGD([param], lr=1.0, momentum=1.0, dampening=1.0)
    optimizer.state[param] = {"momentum_buffer": -numbers}
    optimizer.step()
    expected = rounded(numbers.double(), dtype)
    torch.testing.assert_close(param.detach().double(), expected, rtol=0, atol=0, equal_nan=True)


@both_dtypes
def test_at_every_tie_and_around_it(dtype: torch.dtype) -> None:
    """Of the 13 bits that float16 lacks, and the 16 that bfloat16 does."""
    kept = torch.arange(2**19) << 13
    for cut in (0, 1, 0x0FFF, 0x1000, 0x1001, 0x1FFF):
        assert_stored_rounded(floats(kept + cut), dtype)
