"""What tests of reports share."""

import pytest

from lerac_experiments.report import command


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds."""
    monkeypatch.setattr(command, "write_figures", lambda *_: {})
