"""Which kernels serve tensors on a GPU: asked for by name, missing ones refused with the reason. No GPU is needed."""

import importlib.util
import re
from collections.abc import Iterator

import pytest
import torch

import lerac_fast
from lerac_fast import _built_with
from lerac_fast._native import gpu_backend as choosing
from lerac_fast._native.compiled import runs_on
from lerac_fast._native.extension import extension
from lerac_fast._native.triton import OPERATORS

COMPILED = extension.has_compiled_backend(torch.device("cuda"))
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    if COMPILED or importlib.util.find_spec("triton") is not None:
        lerac_fast.gpu_backend("auto")


def test_auto_takes_the_compiled_kernels_where_there_are_any() -> None:
    if not COMPILED and importlib.util.find_spec("triton") is None:
        with pytest.raises(RuntimeError, match="no such GPU backend"):
            lerac_fast.gpu_backend("auto")
        return
    expected = "cuda" if COMPILED else "triton"
    assert lerac_fast.gpu_backend() == expected
    assert lerac_fast.gpu_backend("auto") == expected
    assert lerac_fast.build_info()["gpu_backends"][expected].startswith("present")


@needs_triton
def test_triton_can_be_forced_and_left_again() -> None:
    before = lerac_fast.gpu_backend()
    for _ in range(2):
        assert lerac_fast.gpu_backend("triton") == "triton"
        assert lerac_fast.gpu_backend("triton") == "triton"  # again, and nothing is registered twice
        assert lerac_fast.gpu_backend() == "triton"
        assert lerac_fast.gpu_backend("auto") == before


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators_have_kernels_for_gpus_whatever_is_chosen(operator: str) -> None:
    for name in ("cuda", "triton", "auto"):
        try:
            lerac_fast.gpu_backend(name)
        except RuntimeError:
            continue
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"lerac_fast::{operator}", "CUDA"), name


@pytest.mark.skipif(COMPILED, reason="built with CUDA")
def test_compiled_kernels_that_are_missing_are_refused() -> None:
    reason = lerac_fast.build_info()["gpu_backends"]["cuda"]
    with pytest.raises(RuntimeError, match=rf"cuda: {reason}.*install lerac_fast anew where nvcc"):
        lerac_fast.gpu_backend("cuda")


def test_triton_that_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was in use stays in use."""
    before = lerac_fast.gpu_backend("cuda") if COMPILED else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r"triton: the package triton is not installed.*install triton"):
        lerac_fast.gpu_backend("triton")
    if before is not None:
        assert lerac_fast.gpu_backend() == before


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 'auto', 'cuda' or 'triton', not 'rocm'"):
        lerac_fast.gpu_backend("rocm")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("90", (9, 0), True),
        ("90", (8, 0), False),
        ("90", (10, 0), True),  # by its PTX
        ("90-real", (10, 0), False),
        ("80-real;90-real;100", (8, 6), True),
        ("80-real;90-real;100", (7, 5), False),
        ("80-real;90-real;100", (12, 0), True),
        ("86-real", (8, 0), False),
        ("90-virtual", (9, 0), True),
        ("90a", (9, 0), True),
        ("90a", (10, 0), False),
        ("100f", (10, 3), True),
        ("100f", (12, 0), False),
        ("native", (7, 5), True),
    ],
)
def test_which_gpus_run_what_was_compiled(architectures: str, capability: tuple[int, int], runs: bool) -> None:
    assert runs_on(architectures, capability) is runs


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the second is older than what was compiled."""
    monkeypatch.setattr(_built_with, "cuda_architectures", "90-real;100")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(9, 0), (7, 5)][index])


@pytest.mark.skipif(not COMPILED, reason="built without CUDA")
@pytest.mark.usefixtures("two_gpus")
@needs_triton
def test_triton_serves_gpus_that_do_not_run_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lerac_fast.gpu_backend("auto") == "triton"
    reason = r"compiled for 90-real, 100, which GPU 1, of compute capability 7\.5, does not run: .* CUDAARCHS=75"
    assert re.match(reason, lerac_fast.build_info()["gpu_backends"]["cuda"])
    with pytest.raises(RuntimeError, match=reason):
        lerac_fast.gpu_backend("cuda")
    assert lerac_fast.gpu_backend() == "triton"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=rf"cuda: {reason}.*triton: the package triton is not installed"):
        lerac_fast.gpu_backend("auto")


@pytest.mark.skipif(not COMPILED, reason="built without CUDA")
@needs_triton
def test_triton_serves_drivers_that_take_no_large_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "driver_versions", lambda _: (12000, 12010))
    assert lerac_fast.gpu_backend("auto") == "triton"
    reason = r"the driver has CUDA 12\.0, and launches need one of CUDA 12\.1 or newer"
    assert re.match(reason, lerac_fast.build_info()["gpu_backends"]["cuda"])
    with pytest.raises(RuntimeError, match=reason):
        lerac_fast.gpu_backend("cuda")
    monkeypatch.setattr(extension, "driver_versions", lambda _: (12010, 12010))
    assert lerac_fast.gpu_backend("auto") == "cuda"


@pytest.mark.skipif(not COMPILED, reason="built without CUDA")
@needs_triton
def test_gpus_are_asked_when_cuda_begins(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Not at import, which would begin it. What was chosen by name stays."""
    assert lerac_fast.gpu_backend("auto") == "cuda"
    queued = [call for call, _ in torch.cuda._queued_calls if call is choosing._choose_again]
    assert len(queued) == 1 or torch.cuda.is_initialized()
    request.getfixturevalue("two_gpus")
    choosing._choose_again()
    assert lerac_fast.gpu_backend() == "triton"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert lerac_fast.gpu_backend("cuda") == "cuda"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    choosing._choose_again()
    assert lerac_fast.gpu_backend() == "cuda"
