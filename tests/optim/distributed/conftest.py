"""Processes that the tests of a file share."""

from collections.abc import Iterator

import pytest

from tests.optim.distributed.processes import Processes


def _processes(count: int) -> Iterator[Processes]:
    processes = Processes(count)
    yield processes
    processes.stop()


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    yield from _processes(2)


@pytest.fixture(scope="module")
def four() -> Iterator[Processes]:
    yield from _processes(4)
