"""The same bits whatever the number of threads and the instruction set."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor

import lerac_fast


def assert_same_for_any_number_of_threads(sample: Callable[[], list[Tensor]]) -> None:
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(sample())
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(_bits(a), _bits(b))


def digest(tensors: Iterable[Tensor]) -> str:
    """The instruction set of this process and a hash of the tensors' bits."""
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(_bits(tensor).numpy().tobytes())
    return f"{lerac_fast.build_info()['cpu_capability']} {sha.hexdigest()}"


def assert_same_on_all_instruction_sets(expression: str, module: str) -> None:
    """`expression`, in terms of `module`, makes the tensors; each instruction set gets a process of its own."""
    digests = {}
    for capability in lerac_fast.build_info()["cpu_capabilities"]:
        run = python(
            f"from tests.determinism import digest; import {module} as m; print(digest({expression}))", capability
        )
        assert run.returncode == 0, run.stderr
        used, digests[capability] = run.stdout.split()
        assert used == capability
    assert len(set(digests.values())) == 1, digests


def python(code: str, capability: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"LERAC_FAST_CPU_CAPABILITY": capability}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def assert_same_for_any_number_of_threads_that_flush(sample: Callable[[], list[torch.Tensor]]) -> None:
    """Where the caller flushes subnormal numbers; skips the test on a processor that cannot."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        assert_same_for_any_number_of_threads(sample)
    finally:
        torch.set_flush_denormal(False)
    assert_same_for_any_number_of_threads(sample)  # and no helper goes on flushing
