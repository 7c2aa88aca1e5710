"""On a GPU, every one of the 2^32 float32 is stored in 16 bits as IEEE 754 rounds it."""

import pytest
import torch

from tests.optim.test_rounding import assert_stored_rounded, both_dtypes, floats

pytestmark = pytest.mark.gpu

AT_ONCE = 2**26


@both_dtypes
def test_every_float32(dtype: torch.dtype, cuda: torch.device) -> None:
    for begin in range(0, 2**32, AT_ONCE):
        assert_stored_rounded(floats(torch.arange(begin, begin + AT_ONCE, device=cuda)), dtype)
