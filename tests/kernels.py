"""Whose kernels the tests of the optimizers and operators run on the CPU: its own, or those for GPUs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lerac_fast
from lerac_fast._gpu_backend import PRESENT, gpu_backends

TRITON_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # see conftest.py
CUDA_EMULATED = lerac_fast.build_info()["gpu_backends"]["cuda"].startswith("emulated")  # see tests/cuda_emulation
KERNELS = "triton" if TRITON_INTERPRETED else "cuda" if CUDA_EMULATED else "cpu"
# Whether kernels for GPUs are to take step counts, tensor rates and loss scales for numbers that the host cannot read.
NUMBERS_ON_DEVICE = KERNELS != "cpu" and os.environ.get("LERAC_FAST_EMULATED_NUMBERS") == "device"


@contextmanager
def gpu_backend_in_use(name: str) -> Iterator[str]:
    """Has a backend serve GPUs meanwhile; skips the test where there is none. "native": whatever serves the CPU."""
    if name == "native":
        yield name
        return
    if not gpu_backends()[name].startswith(PRESENT):
        pytest.skip(f"no backend {name}: {gpu_backends()[name]}")
    lerac_fast.gpu_backend(name)  # type: ignore[arg-type]
    try:
        yield name
    finally:
        lerac_fast.gpu_backend("auto")
