"""How kernels are launched."""

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def _threads_per_warp(device: torch.device) -> int:
    if device.type == "cpu":  # under Triton's interpreter, where nothing depends on it
        return 32
    warp_size: int = torch.cuda.get_device_properties(device).warp_size
    return warp_size


def launch(
    kernel: Any, grid: tuple[int, ...], threads: int, device_of: Tensor, *arguments: Any, **constants: Any
) -> None:
    """Launches `kernel`, with `threads` for each program, on the current stream of the device of `device_of`.

    An empty grid is no launch. Products and sums are rounded one by one, as on the CPU; where memory is the limit that
    costs nothing.
    """
    if 0 in grid:
        return
    with torch.cuda.device_of(device_of):
        warps = max(1, threads // _threads_per_warp(device_of.device))
        kernel[grid](*arguments, **constants, num_warps=warps, enable_fp_fusion=False)
