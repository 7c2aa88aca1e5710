"""Bytes that a step keeps beside torch's state, by what the C library has given out.

    python -m benchmarks.host_memory

They are counted for 100,000 tensors, after so many steps that a step has given back what only a walk over all
parameters needs. Needs glibc.
"""

import ctypes
import gc

import torch
from torch import nn

import lerac_fast.optim
from benchmarks.bench_optimizer_step import OPTIONS, per_tensor
from lerac_fast._native.extension import extension

TENSORS, STEPS = 100_000, extension.RENEWALS_WITHOUT_WALK + 4


class _Mallinfo2(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


def allocated() -> int:
    """Bytes that the C library has given out and not got back, in its heap and apart from it."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo2
    gc.collect()
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def kept_per_tensor(name: str, group_each: bool) -> float:
    """Bytes per tensor that are freed with what an optimizer keeps of its steps."""
    params = [nn.Parameter(torch.zeros(1)) for _ in range(TENSORS)]
    for param in params:
        param.grad = torch.ones(1)
    groups = per_tensor(params) if group_each else params
    optimizer = getattr(lerac_fast.optim, name)(groups, lr=1e-7, **OPTIONS[name])
    for _ in range(STEPS):
        optimizer.step()
    before = allocated()
    del optimizer._native_step_
    return (before - allocated()) / TENSORS


def main() -> None:
    for name in OPTIONS:
        one, each = (kept_per_tensor(name, group_each) for group_each in (False, True))
        print(f"{name}: {one:.0f} bytes a tensor in one group, {each:.0f} where each has a group of its own")


if __name__ == "__main__":
    main()
