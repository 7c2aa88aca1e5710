"""Processes that the tests of a file share."""

import os
from collections.abc import Iterator

import pytest

from tests.kernels import KERNELS
from tests.optim.distributed.processes import Processes


def _processes(count: int) -> Iterator[Processes]:
    """Skipped where they would not run what is tested here: they import lerac_fast anew, with the CPU's kernels."""
    if KERNELS != "cpu" or "LERAC_FAST_TESTED_BUILD" in os.environ:
        pytest.skip("about processes of their own, which run the installed build and the CPU's kernels")
    processes = Processes(count)
    yield processes
    processes.stop()


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    yield from _processes(2)


@pytest.fixture(scope="module")
def four() -> Iterator[Processes]:
    yield from _processes(4)
