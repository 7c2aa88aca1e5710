"""The backends for GPUs, one at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import lerac_fast
from lerac_fast._native.build_info import PRESENT, gpu_backends


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
