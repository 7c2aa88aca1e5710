"""What the tests of the experiments share."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch
import torch._dynamo  # else every child that measures the depth of a model would load it anew, in half a second
from hypothesis import HealthCheck, settings

from lerac_experiments.commands import report

# For all tests: an example takes as long as it takes, however busy the machine is.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Networks as small as these gain nothing from more threads, and lose much where others use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="package")
def _little_to_wait_for() -> Iterator[None]:
    """A trial ends with a collection of garbage, which takes half a second where it looks through all that the tests
    have imported; and no test sees whether files outlive a failure of power, for which hundreds wait for the disk."""
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield
    gc.unfreeze()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    monkeypatch.setattr(report, "write_figures", lambda *_: {})
