"""What every CUDA kernel asks of the memory, as a profiler would count it, from an emulation on the CPU.

`tests/gpu_code/test_accesses.py` checks it, in the build with LERAC_FAST_EMULATE_CUDA: `make check-gpu-code`. `prepare`
is launched where step counts are the device's: with LERAC_FAST_EMULATED_NUMBERS=device, in a run of its own.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

import lerac_fast.optim
from lerac_fast import gaussian_smooth, tempered_cross_entropy
from tools.gpu_code.emulated import Counts, Traffic, watched
from tools.gpu_code.traffic import WIDEST

Work = Callable[[], object]
# Sectors for each that would do: where data begins in the middle of a sector, 128 bits of each lane touch 17 for 16.
EXCESS = 17 / 16
# Bytes of the memory for each that would do; besides, each row of a loss has some numbers.
MORE_BYTES = 1.02
NAMES = {torch.float32: "float32", torch.float64: "float64", torch.bfloat16: "bfloat16"}


@dataclass
class Kernel:
    """One launch of a case: bytes that it must move; of the widths of accesses that take more sectors than the fewest,
    how many times as many; and how many times the bytes would do."""

    name: str
    bytes_read: int
    bytes_written: int
    widths: dict[int, float] = field(default_factory=dict)
    most: float = MORE_BYTES


@dataclass
class Case:
    name: str
    work: Callable[[], Work]  # makes its tensors, and returns what is measured
    kernels: list[Kernel]


@dataclass
class Measured:
    case: Case
    kernel: Kernel
    traffic: Traffic

    @property
    def name(self) -> str:
        return self.kernel.name + f", {self.case.name}" * bool(self.case.name)

    @property
    def counts(self) -> dict[int, Counts]:
        """By width, of reads and writes together."""
        both = (self.traffic.reads, self.traffic.writes)
        widths = sorted({width for counts in both for width in counts}, reverse=True)
        found = {width: [counts[width] for counts in both if width in counts] for width in widths}
        return {width: Counts(*map(sum, zip(*counts, strict=True))) for width, counts in found.items()}

    @property
    def violations(self) -> Iterator[str]:
        for width, counts in self.counts.items():
            limit = self.kernel.widths.get(width, EXCESS)
            if counts.excess > limit + 0.005:
                yield (
                    f"{self.name}: accesses of {width} bytes touch {counts.sectors} sectors where {counts.fewest} hold "
                    f"their bytes: {counts.excess:.2f} times, instead of {limit:.2f}"
                )
        for what, found, floor in (
            ("reads", self.traffic.bytes_read, self.kernel.bytes_read),
            ("writes", self.traffic.bytes_written, self.kernel.bytes_written),
        ):
            if found > self.kernel.most * floor:
                yield f"{self.name}: {what} {found} bytes of the memory instead of {floor}"


def measure(case: Case) -> list[Measured]:
    with watched() as device:
        work = case.work()
        before = len(device.launches)
        work()
        launches = device.launches[before:]
        assert not device.faults, f"{case.name}: {device.faults}"
    assert len(launches) == len(case.kernels), f"{case.name}: {len(launches)} launches"
    return [Measured(case, kernel, traffic) for kernel, traffic in zip(case.kernels, launches, strict=True)]


# ---- the optimizer step ----

SIZES = (48_000, 16_384, 1027, 64, 3)


def _parameters(dtype: torch.dtype, in_bucket: bool) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.randn(size).to(dtype)) for size in SIZES]
    bucket = torch.randn(sum(SIZES) + 1).to(dtype)  # begins where no access of 128 bits could
    for param, gradient in zip(params, bucket[1:].split(SIZES), strict=True):
        param.grad = gradient if in_bucket else gradient.clone()
    return params


def _step(
    optimizer: str, dtype: torch.dtype, states: int, *, in_bucket: bool = False, wide_states: bool = False,
    deferred: bool = False, **options: object,
) -> Case:  # fmt: skip
    def work() -> Work:
        groups = [{"params": [param], "lr": 0.01 * (i + 1)} for i, param in enumerate(_parameters(dtype, in_bucket))]
        if deferred:
            for group in groups:
                group["lr"] = torch.tensor(group["lr"])
        stepping = getattr(lerac_fast.optim, optimizer)(groups, lr=0.1, **options)
        stepping.step()
        if wide_states:
            saved = stepping.state_dict()
            for state in saved["state"].values():
                state.update({key: value.float() for key, value in state.items() if key != "step"})
            stepping.load_state_dict(saved)
        return stepping.step

    item, elements = dtype.itemsize, sum(SIZES)
    state_item = 4 if wide_states else item
    # A lane's elements of a gradient at any place are loaded one by one: 32 lanes lie 16 bytes apart. Wide states take
    # two accesses, each of half a sector.
    widths = {item: WIDEST / item + 1 / 8} if in_bucket else {WIDEST: 2.0} if wide_states else {}
    name = f"{optimizer}{' with amsgrad' * ('amsgrad' in options)}{' with momentum' * ('momentum' in options)}"
    name += f", {NAMES[dtype]}{' with float32 states' * wide_states}{', gradients in a bucket' * in_bucket}"
    update = Kernel(
        "step", elements * (2 * item + states * state_item), elements * (item + states * state_item), widths
    )
    if not deferred:
        return Case(name, work, [update])
    # A thread reads a number of its row, and writes its struct: tens of bytes for each tensor.
    apart = dict.fromkeys((4, 8, 16), 8.0)
    few = 256 * len(SIZES)
    return Case(f"{name}, tensor rates", work, [Kernel("prepare", few, few, apart), update])


def steps() -> Iterator[Case]:
    single, half = torch.float32, torch.bfloat16
    yield _step("SGD", single, 0)
    yield _step("SGD", single, 1, momentum=0.9)
    yield _step("Adam", single, 2)
    yield _step("Adam", single, 3, amsgrad=True)
    yield _step("Adamax", single, 2)
    yield _step("Lion", single, 1)
    yield _step("SGD", half, 0)
    yield _step("Adam", half, 2)
    yield _step("Adam", half, 2, wide_states=True)
    yield _step("Adam", single, 2, in_bucket=True)
    yield _step("Adam", half, 2, in_bucket=True)


def deferred_steps() -> Iterator[Case]:
    yield _step("Adam", torch.float32, 2, deferred=True)


# ---- gaussian_smooth ----


def _smoothing(
    shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format, size: int, widths: dict[int, float],
    most: float = MORE_BYTES,
) -> Case:  # fmt: skip
    def work() -> Work:
        x = torch.randn(shape).to(dtype, memory_format=layout)
        return lambda: gaussian_smooth(x, 0.9 if size == 3 else 2.0, size)

    elements, item = torch.Size(shape).numel(), dtype.itemsize
    name = f"{size} x {size}, {'channels_last' if layout == torch.channels_last else 'contiguous'}, {NAMES[dtype]}"
    name += f", {' x '.join(map(str, shape))}"
    if size == 3:
        return Case(name, work, [Kernel("smoothing", elements * item, elements * item, widths, most)])
    passes: tuple[tuple[str, dict[int, float]], ...] = (("smoothing, across", widths), ("smoothing, down", {}))
    return Case(name, work, [Kernel(which, elements * item, elements * item, w) for which, w in passes])


def smoothing() -> Iterator[Case]:
    rows, channels = torch.contiguous_format, torch.channels_last
    # Of the neighbours along a row only the outermost are loaded: 32 lanes, 16 bytes apart.
    yield _smoothing((4, 8, 112, 112), torch.float32, rows, 3, {4: 4.25})
    yield _smoothing((4, 8, 112, 112), torch.bfloat16, rows, 3, {2: 8.5})
    # Threads of the model have more rows in flight than its cache holds, and than the kernel's registers would allow.
    yield _smoothing((4, 32, 56, 56), torch.float32, channels, 3, {}, most=1.06)
    # Neighbours at every distance: 128 bytes that begin anywhere lie in 5 sectors.
    yield _smoothing((4, 8, 56, 56), torch.float32, rows, 7, {4: 1.25})
    yield _smoothing((4, 32, 28, 28), torch.float32, channels, 7, {})


# ---- tempered_cross_entropy ----


def _loss(rows: int, classes: int, dtype: torch.dtype) -> Case:
    def work() -> Work:
        logits = torch.randn(rows, classes).to(dtype).requires_grad_()
        sigma = torch.ones(rows).requires_grad_()
        targets = torch.randint(0, classes, (rows,))
        return lambda: tempered_cross_entropy(logits, targets, sigma).backward()

    logits, number, statistics = rows * classes * dtype.itemsize, 4 * rows, 16 * rows
    # The sum reads and divides one number of each row's four.
    apart = {4: 4.0}
    return Case(
        f"{rows} x {classes}, {NAMES[dtype]}",
        work,
        [
            Kernel("loss, forward", logits + 3 * number, 2 * number + statistics),
            Kernel("loss, mean", 2 * number + statistics, statistics + 32, apart),
            Kernel("loss, backward", logits + 3 * number + statistics, logits + number),
        ],
    )


def losses() -> Iterator[Case]:
    yield _loss(1024, 1000, torch.float32)
    yield _loss(16, 32_000, torch.float32)
    yield _loss(16, 32_000, torch.bfloat16)
    yield _loss(16, 50_257, torch.bfloat16)


# ---- the table ----

COLUMNS = ("kernel", "sectors a request / the fewest", "read / floor", "written / floor")


def _row(measured: Measured) -> tuple[str, ...]:
    def average(counts: Counts) -> str:
        return f"{counts.sectors / counts.requests:.1f} / {counts.fewest / counts.requests:.1f}"

    sectors = ", ".join(f"{width} bytes: {average(counts)}" for width, counts in measured.counts.items())
    traffic, kernel = measured.traffic, measured.kernel
    return (
        measured.name,
        sectors,
        f"{traffic.bytes_read / kernel.bytes_read:.2f}",
        f"{traffic.bytes_written / kernel.bytes_written:.2f}",
    )


def is_listed(measured: Measured) -> bool:
    """What moves much: the others are checked, too."""
    return measured.kernel.name not in ("prepare", "loss, mean")


def table(found: list[Measured]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(_row(measured) for measured in found if is_listed(measured))]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def measure_all() -> list[Measured]:
    torch.manual_seed(0)
    on_device = os.environ.get("LERAC_FAST_EMULATED_NUMBERS") == "device"
    cases = deferred_steps() if on_device else (*steps(), *smoothing(), *losses())
    return [measured for case in cases for measured in measure(case)]
