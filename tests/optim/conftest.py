"""What tests of optimizers share."""

from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture
def process_group(tmp_path) -> Iterator[None]:
    """Of this process alone."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()
