"""Which kernels serve tensors on a GPU: those compiled with CUDA, or Triton's.

The compiled ones register themselves when the module is loaded. Triton's are registered here in their place, and are
imported when the first tensor on a GPU asks for them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

from lerac_fast import _built_with
from lerac_fast._extension import extension

GPU = torch.device("cuda")  # torch's name for AMD's GPUs, too
PRESENT = "present"

# Operator -> where its Triton kernel is.
_OPERATORS = {
    "gaussian_smooth": ("gaussian_smooth", "gaussian_smooth"),
    "gaussian_smooth_": ("gaussian_smooth", "gaussian_smooth_"),
    "_tempered_cross_entropy": ("tempered_cross_entropy", "forward"),
    "_tempered_cross_entropy_backward": ("tempered_cross_entropy", "backward"),
}
_registration: torch.library.Library | None = None  # of Triton's operators, as long as they are in use


def gpu_backends() -> dict[str, str]:
    """The backends by name: "present, ..." or why there is none."""
    architectures = _built_with.cuda_architectures.replace(";", ", ")
    details = {
        "cuda": lambda: f"CUDA {_built_with.cuda_version} for {architectures}",
        "triton": lambda: f"triton {_version('triton')}",
    }
    return {name: reason or f"{PRESENT}, {details[name]()}" for name, reason in _reasons().items()}


def _reasons() -> dict[str, str]:
    """Why a backend is absent; nothing, for those that are present."""
    triton = ""
    if not (torch.version.cuda or torch.version.hip):
        triton = f"torch {torch.__version__} has no GPU support"
    elif importlib.util.find_spec("triton") is None:
        triton = "the package triton is not installed"
    return {"cuda": "" if extension.has_compiled_backend(GPU) else _built_with.cuda_absent, "triton": triton}


def _version(package: str) -> str:
    """Of the distribution that the package comes from, whose name may be another: builds of torch for ROCm have one."""
    distributions = importlib.metadata.packages_distributions().get(package, [])
    return importlib.metadata.version(distributions[0]) if distributions else "of unknown version"


def gpu_backend(name: Literal["auto", "cuda", "triton"] | None = None) -> str:
    """Choose the kernels for tensors on a GPU, from the next call on, for the whole process.

    Args:
        name: "cuda", the compiled kernels; "triton", the portable ones, compiled when first used; "auto", as at import:
            the compiled ones if there are any, else Triton's. None changes nothing.

    Returns:
        "cuda" or "triton": what is in use now.

    Raises:
        RuntimeError: there is no such backend here, and why. What was in use stays in use.
        ValueError: `name` is something else.
    """
    if name is None:
        return _in_use()
    if name not in ("auto", "cuda", "triton"):
        raise ValueError(f"gpu_backend: name must be 'auto', 'cuda' or 'triton', not {name!r}")
    reasons = _reasons()
    present = [backend for backend, reason in reasons.items() if not reason]
    chosen = name if name != "auto" else next(iter(present), "auto")
    if chosen not in present:
        raise RuntimeError(_absence(reasons if name == "auto" else {name: reasons[name]}))
    if chosen == "triton":
        _use_triton()
    else:
        _use_compiled()
    return chosen


def _in_use() -> str:
    if _registration is not None:
        return "triton"
    if extension.has_compiled_backend(GPU):
        return "cuda"
    raise RuntimeError(_absence(_reasons()))


def _absence(reasons: dict[str, str]) -> str:
    named = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return (
        f"lerac_fast has no such GPU backend ({named}). For compiled kernels, install lerac_fast anew where nvcc and "
        "a CUDA build of torch are; for portable ones, install triton"
    )


def _use_compiled() -> None:
    global _registration
    if _registration is not None:
        _registration._destroy()
        _registration = None
    extension.choose_compiled_backend(GPU)


def _use_triton() -> None:
    global _registration
    if _registration is None:
        _registration = register_triton(GPU, asynchronous=True)


def register_triton(device: torch.device, asynchronous: bool) -> torch.library.Library:
    """Let Triton's kernels serve the devices of a type, in place of others.

    In tests the device may be the CPU, under Triton's interpreter. Operators are served as long as the result lives.

    Args:
        asynchronous: the host goes on while kernels run, so that numbers on the device are read by kernels alone.
    """
    library = torch.library.Library("lerac_fast", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other kernels are replaced
        for name, where in _OPERATORS.items():
            library.impl(name, _imported_at_first_use(*where), device.type.upper(), allow_override=True)
    extension.choose_python_backend(
        device,
        update=_imported_at_first_use("optimizer_step", "update_table"),
        is_capturing=_imported_at_first_use("optimizer_step", "is_capturing"),
        asynchronous=asynchronous,
    )
    return library


def _imported_at_first_use(module: str, function: str) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(f"lerac_fast._triton.{module}"), function)(*arguments)

    return call


def _refuse(*_: Any) -> None:
    raise RuntimeError(_absence(_reasons()))


def _initialize() -> None:
    try:
        gpu_backend("auto")
    except RuntimeError:
        # The optimizers step by torch's own code then, with a warning. The operators have nothing to fall back on.
        library = torch.library.Library("lerac_fast", "IMPL")
        for name in _OPERATORS:
            library.impl(name, _refuse, "CUDA")
        _initialize.library = library  # type: ignore[attr-defined]  # as long as the process


_initialize()
