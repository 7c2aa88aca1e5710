"""Compiles and calls ``stream_limit.cpp``: what the memory allows, measured in the same run as the step."""

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

_SOURCE = Path(__file__).with_name("stream_limit.cpp")


@functools.cache
def _library() -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(prefix="lerac_fast_stream_"))
    library = folder / "stream_limit.so"
    compiler = os.environ.get("CXX", "c++")
    options = ["-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, str(_SOURCE), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))  # after torch, whose OpenMP threads it then shares


def stream_pass(array_bytes: int, updated: int) -> Callable[[], None]:
    """A function that reads one array, and reads and writes `updated` others, of `array_bytes` each."""
    count = array_bytes // 4
    # Shifted against each other: arrays that all start on a page fall into the same sets of the caches.
    gradient, *arrays = (torch.full((count + shift,), 1e-6)[shift:] for shift in range(0, 1088 * (1 + updated), 1088))
    pointers = (ctypes.c_void_p * updated)(*(array.data_ptr() for array in arrays))
    library = _library()

    def run() -> None:
        library.stream_pass(ctypes.c_void_p(gradient.data_ptr()), pointers, updated, ctypes.c_int64(count))

    run.arrays = (gradient, *arrays)  # type: ignore[attr-defined]  # keeps the memory alive
    return run
