"""What the tests of the experiments share."""

from collections.abc import Iterator

import pytest
import torch
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


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    monkeypatch.setattr(report, "write_figures", lambda *_: {})
