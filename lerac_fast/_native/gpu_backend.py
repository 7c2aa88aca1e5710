"""Which kernels serve tensors on a GPU: those compiled with CUDA, or Triton's.

The compiled ones register themselves when the module is loaded. Triton's take their place where they are chosen.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from lerac_fast._native.compiled import GPU, compiled_absence
from lerac_fast._native.extension import extension
from lerac_fast._native.triton import OPERATORS, register_triton, triton_absence


def absences(look: bool = True) -> dict[str, str]:
    """The backends by name, the preferred one first, and why each is absent; nothing, for those that are present."""
    return {"cuda": compiled_absence(look), "triton": triton_absence()}


def gpu_backend(name: Literal["auto", "cuda", "triton"] | None = None) -> str:
    """Choose the kernels for tensors on a GPU, from the next call on, for the whole process.

    Args:
        name: "cuda", the compiled kernels; "triton", the portable ones, compiled when first used; "auto", as when CUDA
            begins: the compiled ones if there are any that the GPUs run, else Triton's. None changes nothing.

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
    chosen = _choose(name, absences())
    _Chosen.by_hand = name != "auto"
    return chosen


class _Chosen:
    """What is in use in this process."""

    triton: torch.library.Library | None = None
    """The registration of Triton's operators, as long as they are in use."""
    refusals: torch.library.Library | None = None
    """Of operators that nothing serves."""
    by_hand = False
    """Whether it was asked for by name."""


def _choose(name: str, reasons: dict[str, str]) -> str:
    present = [backend for backend, reason in reasons.items() if not reason]
    chosen = name if name != "auto" else next(iter(present), "auto")
    if chosen not in present:
        raise RuntimeError(_absence(reasons if name == "auto" else {name: reasons[name]}))
    if chosen == "cuda":
        if _Chosen.triton is not None:
            _Chosen.triton._destroy()
            _Chosen.triton = None
        extension.choose_compiled_backend(GPU)
    elif _Chosen.triton is None:
        _Chosen.triton = register_triton(GPU, asynchronous=True)
    return chosen


def _in_use() -> str:
    if _Chosen.triton is not None:
        return "triton"
    if extension.has_compiled_backend(GPU):
        return "cuda"
    raise RuntimeError(_absence(absences()))


def _absence(reasons: dict[str, str]) -> str:
    named = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
    return (
        f"lerac_fast has no such GPU backend ({named}). For compiled kernels, install lerac_fast anew where nvcc and "
        "a CUDA build of torch are; for portable ones, install triton"
    )


def _refuse(*_: Any) -> None:
    raise RuntimeError(_absence(absences()))


def _register() -> None:
    """Registers kernels for GPUs, without a look at these: that would begin CUDA, which processes may not be forked
    after. The look is taken when CUDA begins."""
    try:
        _choose("auto", absences(look=False))
    except RuntimeError:
        # The optimizers step by torch's own code then, with a warning. The operators have nothing to fall back on.
        _Chosen.refusals = torch.library.Library("lerac_fast", "IMPL")
        for name in OPERATORS:
            _Chosen.refusals.impl(name, _refuse, "CUDA")
    if extension.has_compiled_backend(GPU):
        torch.cuda._lazy_call(_choose_again)  # as torch.cuda.manual_seed does


def _choose_again() -> None:
    reasons = absences()
    if not _Chosen.by_hand and not all(reasons.values()):  # else the first launch raises
        _choose("auto", reasons)


_register()
