"""`make roofline-gpu`: in a minute, what every kernel takes of the GPU's time against what its memory allows.

One table, so that a first run on any GPU tells at once what is off. Of each case the median of 15 calls, timed by the
device's clock while its work waits in the queue, and beside it the host's time. The limit is the bytes that must move
at the rate of a large copy; below about 10 us the launch itself is the limit.
"""

import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn

import lerac_fast
from benchmarks.bench_gaussian_smooth import depthwise, feature_map, sigma
from benchmarks.bench_optimizer_step import per_tensor
from benchmarks.gpu.bench_optimizer_step import parameters, shapes_of
from benchmarks.gpu.conftest import BENCH_ON, TINY, GpuTimer, HostTimer, copying
from lerac_fast import gaussian_smooth, tempered_cross_entropy
from lerac_fast._native.launches import launches_apart
from lerac_fast.optim import AdamW

CALLS = 1 if TINY else 15
DTYPES = (torch.float32, torch.bfloat16)


class Case(NamedTuple):
    name: str
    bytes_moved: int
    ours: Callable[[], object]
    torchs: Callable[[], object]


def _into_a_bucket(params: list[nn.Parameter]) -> None:
    """Gradients as views into one tensor, unaligned, as they are under DistributedDataParallel."""
    size, place = sum(param.numel() for param in params), 1
    bucket = torch.empty(1 + size, dtype=params[0].dtype, device=BENCH_ON).normal_(0, 0.001)
    for param in params:
        param.grad = bucket[place : place + param.numel()].view_as(param)
        place += param.numel()


def steps(dtype: torch.dtype) -> Iterator[Case]:
    for model in ("400 x 64", "DenseNet-121", "ResNet-18", "BERT-large"):
        for bucket in (False, True):
            params = parameters(shapes_of(model), dtype, BENCH_ON)
            if bucket:
                _into_a_bucket(params)
            ours = AdamW(per_tensor(params), weight_decay=0.01)
            torchs = torch.optim.AdamW(params, lr=1e-7, weight_decay=0.01, fused=True)
            name = f"AdamW, {model}, a group per tensor" + ", gradients in a bucket" * bucket
            yield Case(name, 7 * sum(param.nbytes for param in params), ours.step, torchs.step)


def steps_that_count_on_the_device(dtype: torch.dtype) -> Iterator[Case]:
    """Two launches: one counts the steps and makes the rules, and the second may begin while the first still runs."""
    for model in ("DenseNet-121", "ResNet-18"):
        params = parameters(shapes_of(model), dtype, BENCH_ON)
        capturable = {"capturable": not TINY}  # for GPUs alone
        ours = AdamW(per_tensor(params), weight_decay=0.01, **capturable)
        torchs = torch.optim.AdamW(params, lr=1e-7, weight_decay=0.01, fused=True, **capturable)
        for name, step in (("overlapping", ours.step), ("apart", launches_apart()(ours.step))):
            name = f"AdamW capturable, {model}, a group per tensor, launches {name}"
            yield Case(name, 7 * sum(param.nbytes for param in params), step, torchs.step)


def losses(dtype: torch.dtype) -> Iterator[Case]:
    for rows, classes in ((128, 1000), (4096, 1000), (8192, 32_000), (4096, 50_257)):
        rows, classes = (rows, classes) if not TINY else (8, 100)
        logits = torch.randn(rows, classes, device=BENCH_ON).to(dtype).requires_grad_()
        sigmas = torch.ones(rows, device=BENCH_ON).requires_grad_()
        targets = torch.randint(0, classes, (rows,), device=BENCH_ON)
        ours, torchs = tempered_cross_entropy(logits, targets, sigmas), F.cross_entropy(logits, targets)

        def forward(loss: Callable[[], object]) -> Callable[[], object]:
            return torch.no_grad()(loss)

        yield Case(
            f"loss, forward, {rows} x {classes}",
            logits.nbytes,
            forward(lambda z=logits, t=targets, s=sigmas: tempered_cross_entropy(z, t, s)),
            forward(lambda z=logits, t=targets: F.cross_entropy(z, t)),
        )
        yield Case(
            f"loss, backward, {rows} x {classes}",
            2 * logits.nbytes,
            lambda loss=ours, of=(logits, sigmas): torch.autograd.grad(loss, of, retain_graph=True),
            lambda loss=torchs, of=logits: torch.autograd.grad(loss, of, retain_graph=True),
        )


def smoothing(dtype: torch.dtype) -> Iterator[Case]:
    for layout in (torch.contiguous_format, torch.channels_last):
        for shape in ((64, 64, 112, 112), (64, 128, 28, 28), (64, 512, 7, 7)):
            x = feature_map(shape if not TINY else (1, 8, 8, 8), layout, dtype, BENCH_ON)
            convolve = depthwise(x)
            yield Case(
                f"smoothing, {' x '.join(map(str, x.shape))}, {str(layout).removeprefix('torch.')}",
                2 * x.nbytes,
                lambda x=x: gaussian_smooth(x, sigma),
                torch.no_grad()(lambda x=x, convolve=convolve: convolve(x)),
            )


def median(function: Callable[[], object]) -> tuple[float, float]:
    """Microseconds of the device, and of the host."""
    timer = HostTimer() if TINY else GpuTimer()
    function()
    times = [timer(function) for _ in range(CALLS)]
    return statistics.median(times) * 1e6, statistics.median(timer.host[function]) * 1e6


def main() -> None:
    bytes_at_once = 2**16 if TINY else 2**31
    rate = bytes_at_once / median(copying(bytes_at_once, BENCH_ON))[0]  # bytes in a microsecond
    device = "the CPU, tiny: the numbers mean nothing" if TINY else torch.cuda.get_device_name()
    backend = "" if TINY else f", {lerac_fast.gpu_backend()}"
    table = Table(title=f"{device}{backend}, torch {torch.__version__}; a copy moves {rate / 1e6:.2f} TB/s")
    for column in (
        "case",
        "dtype",
        "limit us",
        "lerac_fast us",
        "over the limit",
        "host us",
        "torch us",
        "torch's host us",
    ):
        table.add_column(column, justify="left" if column == "case" else "right")
    for dtype in DTYPES:
        for case in (
            *steps(dtype),
            *steps_that_count_on_the_device(dtype),
            *losses(dtype),
            *smoothing(dtype),
        ):
            (ours, host), (torchs, torchs_host), limit = median(case.ours), median(case.torchs), case.bytes_moved / rate
            numbers = (
                f"{limit:.1f}",
                f"{ours:.1f}",
                f"{ours / limit:.2f}",
                f"{host:.0f}",
                f"{torchs:.1f}",
                f"{torchs_host:.0f}",
            )
            table.add_row(case.name, str(dtype).removeprefix("torch."), *numbers)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
