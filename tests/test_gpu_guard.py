"""The tests' own guard against waiting for the device, which needs none itself."""

import subprocess
import sys

import pytest
import torch

PROGRAM = """
import torch
torch.cuda._lazy_init = lambda: None  # the mode is the host's
from tests.gpu.conftest import synchronization_is_an_error
for _ in range(2):
    with synchronization_is_an_error():
        assert torch.cuda.get_sync_debug_mode() == 2
    assert torch.cuda.get_sync_debug_mode() == 0
"""


@pytest.mark.skipif(torch.version.cuda is None, reason="torch has no CUDA")
def test_the_guard_survives_torchs_warning() -> None:
    """torch warns once a process that the mode is a prototype; as an error, that left the mode on."""
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", PROGRAM], check=True)
