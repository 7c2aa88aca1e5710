"""Paired timing on a GPU: `make bench-gpu`. Each benchmark runs with every GPU backend that is present.

LERAC_FAST_GPU_BENCH_ON=cpu runs them on the CPU in tiny sizes, so that the benchmarks themselves can be tried without a
GPU; their numbers mean nothing then.
"""

import math
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks.backends import gpu_backend_in_use
from benchmarks.conftest import LIMIT, Result, record

BENCH_ON = os.environ.get("LERAC_FAST_GPU_BENCH_ON", "cuda")
TINY = BENCH_ON == "cpu"
BACKENDS = ["cuda", "triton"] if BENCH_ON == "cuda" else ["native"]
COPIED_AT_ONCE = 2**30  # bytes read, so that the buffers of the largest models fit beside them


@pytest.fixture(scope="session")
def device() -> str:
    if not TINY and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return BENCH_ON


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, device: str) -> Iterator[str]:  # noqa: ARG001  # skips first
    with gpu_backend_in_use(request.param) as name:
        yield name


class GpuTimer:
    """Calls a function and says how long the GPU worked, by its own clock; and keeps how long the call took the host.

    Two calls: one on an idle device, for the host's time, and one behind a kernel that does nothing for as long, so
    that the GPU finds all its work queued.
    """

    def __init__(self) -> None:
        self.host: dict[Callable[[], object], list[float]] = defaultdict(list)
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, function: Callable[[], object]) -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
        torch.cuda._sleep(100_000 + int(2e9 * host))  # cycles of at most 2 GHz
        self.begin.record()
        function()
        self.end.record()
        torch.cuda.synchronize()
        self.host[function].append(host)
        return self.begin.elapsed_time(self.end) / 1e3


class HostTimer:
    """In its place on the CPU."""

    def __init__(self) -> None:
        self.host: dict[Callable[[], object], list[float]] = defaultdict(list)

    def __call__(self, function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        self.host[function].append(time.perf_counter() - start)
        return self.host[function][-1]


def copying(bytes_moved: int, device: str) -> Callable[[], None]:
    """Moves as many bytes by torch's copy, half of them read and half written: what the memory allows."""
    passes = max(1, math.ceil(bytes_moved / 2 / COPIED_AT_ONCE))
    source = torch.ones(max(1, bytes_moved // 2 // passes), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        for _ in range(passes):
            target.copy_(source)

    return run


@pytest.fixture
def compare_on_device(compare, benchmark, device: str, backend: str) -> Callable[..., Result]:
    """`compare` by the device's clock, beside a copy of `bytes_moved` bytes, and a second table of the host's times."""
    machine = "tiny, on the CPU" if TINY else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"

    def run(
        case: str, contenders: dict[str, Callable[[], object]], bytes_moved: int = 0, seconds: float = 0.5, **how: bool
    ) -> Result:
        timer = HostTimer() if TINY else GpuTimer()
        if bytes_moved:
            contenders = contenders | {LIMIT: copying(bytes_moved, device)}
        case = f"{case}, {backend}"
        seconds = 0.0 if TINY else seconds
        result = compare(case, contenders, bytes_moved, seconds, once=timer, machine=machine, **how)
        host = {name: statistics.median(timer.host[f]) * 1e6 for name, f in contenders.items() if name != LIMIT}
        benchmark.extra_info |= {
            "device": machine,
            "backend": backend,
            "host_median_us": {name: round(value, 2) for name, value in host.items()},
        }
        record(Result(f"{result.benchmark}, the host's part", case, host, machine))
        return result

    return run
