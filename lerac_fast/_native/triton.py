"""Triton's kernels for tensors on GPUs: registered in the place of others, and imported when the first tensor asks."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import torch

from lerac_fast._native.extension import extension

# Operator -> where its Triton kernel is.
OPERATORS = {
    "gaussian_smooth": ("gaussian_smooth", "gaussian_smooth"),
    "gaussian_smooth_": ("gaussian_smooth", "gaussian_smooth_"),
    "_tempered_cross_entropy": ("tempered_cross_entropy", "forward"),
    "_tempered_cross_entropy_backward": ("tempered_cross_entropy", "backward"),
}


def triton_absence() -> str:
    """Why Triton's kernels cannot be used; nothing, if they can."""
    if not (torch.version.cuda or torch.version.hip):
        return f"torch {torch.__version__} has no GPU support"
    return "the package triton is not installed" if importlib.util.find_spec("triton") is None else ""


def register_triton(device: torch.device, asynchronous: bool) -> torch.library.Library:
    """Let Triton's kernels serve the devices of a type, in place of others.

    In tests the device may be the CPU, under Triton's interpreter. Operators are served as long as the result lives.

    Args:
        asynchronous: the host goes on while kernels run, so that numbers on the device are read by kernels alone.
    """
    library = torch.library.Library("lerac_fast", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that other kernels are replaced
        for name, where in OPERATORS.items():
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
