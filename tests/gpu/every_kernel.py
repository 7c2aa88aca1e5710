"""Launches the compiled kernels at sizes around their boundaries, for compute-sanitizer: `make test-gpu`.

    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool memcheck python -m tests.gpu.every_kernel

Without torch's cache of memory, every tensor is an allocation of its own, and what reads or writes beyond one is found.
What the kernels compute is for the other tests to check.
"""

import torch
from torch import nn

import lerac_fast.optim
from lerac_fast import gaussian_smooth, gaussian_smooth_, gpu_backend, tempered_cross_entropy
from tests.optim.cases import TYPICAL

DEVICE = "cuda"
CLASSES = (1, 7, 10, 33, 255, 1001, 2049, 5003)
MAPS = ((1, 3, 5, 7), (2, 8, 16, 16), (1, 2, 9, 20), (2, 16, 1, 8), (3, 5, 33, 12))
SIZES = (1, 3, 257, 4096, 8191, 20000)


def losses(dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for classes in CLASSES:
        for rows in (3, 1025 if classes < 40 else 5):
            logits = torch.randn(rows, classes, device=DEVICE, dtype=dtype, requires_grad=True)
            sigma = torch.ones(rows, device=DEVICE, dtype=wide, requires_grad=True)
            targets = torch.randint(0, classes, (rows,), device=DEVICE)
            for label_smoothing in (0.0, 0.1):
                tempered_cross_entropy(logits, targets, sigma, label_smoothing=label_smoothing).backward()


def smoothing(dtype: torch.dtype) -> None:
    for shape in MAPS:
        for layout in (torch.contiguous_format, torch.channels_last):
            maps = torch.randn(shape, device=DEVICE, dtype=dtype).to(memory_format=layout)
            gaussian_smooth(maps, 0.9)
            gaussian_smooth_(maps, 0.9)
            gaussian_smooth(maps, 2.0, 7)


def steps(dtype: torch.dtype) -> None:
    for case in TYPICAL:
        for offset in (0, 1):  # gradients in one buffer, aligned and not
            params = [nn.Parameter(torch.randn(size, device=DEVICE, dtype=dtype)) for size in SIZES]
            buffer = torch.randn(sum(SIZES) + 1, device=DEVICE, dtype=dtype)
            for param, gradient in zip(params, buffer[offset:][: sum(SIZES)].split(SIZES), strict=True):
                param.grad = gradient
            groups = [{"params": [param], "lr": 0.1 / (i + 1)} for i, param in enumerate(params)]
            optimizer = getattr(lerac_fast.optim, case.name)(groups, lr=0.1, **case.options)
            for _ in range(3):
                optimizer.step()


if __name__ == "__main__":
    gpu_backend("cuda")
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        losses(dtype)
        smoothing(dtype)
        steps(dtype)
    torch.cuda.synchronize()
