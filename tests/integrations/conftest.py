"""Processes that the tests of a file share."""

from collections.abc import Iterator

import pytest

from tests.optim.distributed.processes import Processes, shared


@pytest.fixture(scope="module")
def two() -> Iterator[Processes]:
    yield from shared(2)
