"""Which kernels serve tensors on a GPU: asked for by name, missing ones refused with the reason. No GPU is needed."""

import importlib.util
from collections.abc import Iterator

import pytest
import torch

import lerac_fast
from lerac_fast import _gpu_backend
from lerac_fast._extension import extension

COMPILED = extension.has_compiled_backend(torch.device("cuda"))
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
OPERATORS = list(_gpu_backend._OPERATORS)


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
