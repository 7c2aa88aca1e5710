"""What is emulated of a GPU, watched: in the build with LERAC_FAST_EMULATE_CUDA, run by `make check-gpu-code`."""

from collections.abc import Iterator

import pytest

from tests.kernels import CUDA_EMULATED
from tools.gpu_code.emulated import EmulatedDevice, watched


@pytest.fixture
def device() -> Iterator[EmulatedDevice]:
    if not CUDA_EMULATED:
        pytest.skip("the CUDA kernels are not emulated in this build; see LERAC_FAST_EMULATE_CUDA in CMakeLists.txt")
    with watched() as device:
        yield device
