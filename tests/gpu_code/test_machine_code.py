"""The machine code of the kernels is what the design asks for: `make check-gpu-code`."""

import pytest

from tools.gpu_code.check import Findings, check

pytestmark = pytest.mark.gpu_code


@pytest.fixture(scope="module")
def findings() -> Findings:
    return check()


@pytest.mark.parametrize("backend", ["CUDA", "Triton"])
def test_gpu_code(backend: str, findings: Findings) -> None:
    if backend in findings.absent:
        pytest.skip(f"{backend}: {findings.absent[backend]}")
    reports = findings.of(backend)
    assert reports
    violations = [violation for report in reports for violation in report.violations]
    assert not violations, "\n".join(violations)
