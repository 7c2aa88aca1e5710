"""Warps ask for whole sectors, and each byte comes from the memory once: every kernel, and two that are wrong."""

from pathlib import Path

import pytest
import torch

from tests.kernels import CUDA_EMULATED, NUMBERS_ON_DEVICE
from tools.gpu_code.accesses import Case, Kernel, Measured, measure, measure_all, table
from tools.gpu_code.emulated import EmulatedDevice

pytestmark = [
    pytest.mark.gpu_code,
    pytest.mark.skipif(not CUDA_EMULATED, reason="the CUDA kernels are not emulated in this build"),
]


@pytest.fixture(scope="module")
def found() -> list[Measured]:
    return measure_all()


def test_accesses(found: list[Measured]) -> None:
    violations = [violation for measured in found for violation in measured.violations]
    assert not violations, "\n".join(violations)


@pytest.mark.skipif(NUMBERS_ON_DEVICE, reason="the table has the launches of steps that the host counts")
def test_the_table_of_the_docs(found: list[Measured]) -> None:
    expected = table(found)
    assert expected in Path("docs/gpu.md").read_text(), f"docs/gpu.md should have:\n{expected}"


def test_permuted_lanes() -> None:
    """The kernel of gaussian_smooth, but lanes that lie beside each other are 8 threads apart: each is alone in its
    line. Its machine code is the same but for how a thread gets its number."""
    shape = (32, 112, 112)
    x, y = torch.randn(shape), torch.empty(shape)

    def work() -> object:
        source = x.clone()  # the device's
        target = y.clone()
        return lambda: EmulatedDevice().plant("smooth", source, target, *shape)

    [measured] = measure(Case("", work, [Kernel("permuted", x.nbytes, x.nbytes, {4: 32.0})]))
    [violation] = measured.violations
    assert violation.startswith("permuted: accesses of 16 bytes touch ")
    assert violation.endswith(": 2.00 times, instead of 1.06")


def test_two_passes() -> None:
    """A softmax that reads rows of 32,000 classes once for their largest, and once more."""
    rows, classes = 16, 32_000

    def work() -> object:
        logits, sums = torch.randn(rows, classes), torch.empty(rows)
        return lambda: EmulatedDevice().plant("softmax", logits, rows, classes, sums)

    [measured] = measure(Case("", work, [Kernel("in two passes", 4 * rows * classes, 4 * rows)]))
    assert list(measured.violations) == ["in two passes: reads 4096000 bytes of the memory instead of 2048000"]
