"""Tests for a machine with a GPU: `make test-gpu`. Each runs with every GPU backend that is present.

LERAC_FAST_GPU_TESTS_ON=cpu runs them on the CPU, with whatever serves it, so that the tests themselves can be tried
without a GPU. Those about streams, graphs and several devices are left out then.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch

from benchmarks.backends import gpu_backend_in_use
from tests.kernels import KERNELS

TESTS_ON = os.environ.get("LERAC_FAST_GPU_TESTS_ON", "cuda")
BACKENDS = ["cuda", "triton"] if TESTS_ON == "cuda" else ["native"]


@pytest.fixture(scope="session")
def device() -> torch.device:
    if TESTS_ON != "cuda":
        return torch.device(TESTS_ON)
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request: pytest.FixtureRequest, device: torch.device) -> Iterator[str]:  # noqa: ARG001  # skips first
    """The kernels in use: "cuda", "triton", or on the CPU "native"."""
    with gpu_backend_in_use(request.param) as name:
        yield name


@pytest.fixture
def cuda(device: torch.device) -> torch.device:
    """The device, where it has streams and graphs."""
    if device.type != "cuda":
        pytest.skip("needs streams and graphs")
    return device


@pytest.fixture
def gpu_kernels(backend: str) -> str:
    """The backend, where kernels for GPUs run: on one, or on the CPU by emulation."""
    if backend == "native" and KERNELS == "cpu":
        pytest.skip("about the kernels for GPUs")
    return backend


def _set_sync_debug_mode(mode: str) -> None:
    """Without torch's warning, once a process, that the mode is a prototype."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def synchronization_is_an_error() -> Iterator[None]:
    _set_sync_debug_mode("error")
    try:
        yield
    finally:
        _set_sync_debug_mode("default")


@pytest.fixture
def no_synchronization(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """`with no_synchronization():` the host must not wait for the device."""
    return synchronization_is_an_error if device.type == "cuda" else nullcontext
