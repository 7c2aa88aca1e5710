"""The Triton kernels: what each of them must do, checked in what Triton made of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from lerac_fast._triton import gaussian_smooth, optimizer_step, tempered_cross_entropy
from lerac_fast._triton._math import NUMBERS, RULES
from tools.gpu_code.machine_code import Kernel, Traffic
from tools.gpu_code.report import Report
from tools.gpu_code.targets import Target
from tools.gpu_code.traffic import WIDEST, accesses, step_items, total
from tools.gpu_code.triton_launches import Launch, compile_launch, launches_of, read_kernels

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Case:
    """A call that launches kernels."""

    name: str
    call: Callable[[], object]
    is_listed: bool


def reports(operation: str, target: Target, part: int, parts: int) -> list[Report]:
    """Of all kernels that the cases launch, or of one of several parts of them."""
    cases = list(CASES[operation]())
    named, failed = [], []
    for case in cases[len(cases) * part // parts : len(cases) * (part + 1) // parts]:
        for launch in launches_of(case.call):
            name = _name_of(launch, case)
            try:
                named.append((case, launch, name, compile_launch(launch, target)))
            except Exception as error:  # whatever Triton raises
                failed.append(Report.that_failed("Triton", operation, name, target, error))
    found = {report.kernel: report for report in failed}
    kernels = read_kernels([compiled for *_, compiled in named], target)
    for (case, launch, name, compiled), kernel in zip(named, kernels, strict=True):
        report = Report.of(
            kernel,
            backend="Triton",
            operation=operation,
            name=name,
            target=target,
            threads=launch.threads,
            shared=compiled.metadata.shared,
        )
        check = _CHECKS.get(launch.name)
        report.is_listed = case.is_listed and check is not None
        if check:
            check(report, kernel, launch)
        found[report.kernel] = report
    return list(found.values())


def _name_of(launch: Launch, case: Case) -> str:
    name = f"{launch.name.removesuffix('_kernel')}, {case.name}"
    if launch.name == "smooth_line_kernel":  # of which one call launches several
        source, target = launch.arguments[:2]
        name += ", adjacent" if launch.constants["ADJACENT"] else ", apart"
        name += f", {_name(source.dtype)} to {_name(target.dtype)}" * (source.dtype != target.dtype)
    return name


# ---- optimizer_step ----


def _optimizer_cases() -> Iterator[Case]:
    for rule, (elements, (element, state)), deferred in product(
        RULES, enumerate(optimizer_step.ELEMENTS), (False, True)
    ):
        name = f"{rule}, {_long_name(element)}" + f" + {_long_name(state)} states" * (element is not state)
        listed = element.name in ("fp32", "bf16") or (rule == "Adam" and element.name == "fp64")
        listed &= rule == "Adam" or not deferred
        yield Case(
            name + ", unscaling" * deferred,
            partial(_step, rule, elements, deferred),
            listed and not (rule == "Sgd" and element is not state),
        )


def _long_name(element: Any) -> str:
    return {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}[element.name]


def _step(rule: str, elements: int, deferred: bool) -> None:
    """A step of one tensor; if deferred, with all that the device alone may know."""
    some_address = 16
    rows = torch.zeros(1, optimizer_step.COLUMNS.value, dtype=torch.int64)
    rows[0, optimizer_step.NUMEL.value] = 1_000_000
    numbers = torch.ones(1, NUMBERS.value, dtype=torch.float64)
    packed: Any = SimpleNamespace(
        kept=None,
        device=torch.device("cpu"),
        rule=rule,
        elements=elements,
        rows=optimizer_step._bytes(rows),
        numbers=optimizer_step._bytes(numbers),
        rates=optimizer_step._bytes(torch.zeros(1, 2, dtype=torch.int64)),
        grad_scale=some_address * deferred,
        found_inf=some_address * deferred,
    )
    optimizer_step.update_table(packed)


def _update_rows(report: Report, kernel: Kernel, launch: Launch) -> None:
    """One way for chunks that are whole and aligned, and one for all others, by single elements."""
    constants = launch.constants
    element, state = (constants[name].primitive_bitwidth // 8 for name in ("ELEMENT", "STATE_ELEMENT"))
    [rule] = [name for name, function in RULES.items() if function is constants["RULE"]]
    reads, writes = step_items(rule, element, state, constants["UNSCALES"])
    elements = constants["CHUNK"] // launch.threads
    at_once = WIDEST // state  # so that a thread's parameters and states are the same elements, without gaps
    path = kernel.sure_path(_widest_store(kernel))
    traffic = kernel.traffic(path)
    report.expect("loads", traffic.loads, total([accesses(elements, size, at_once) for size in reads]))
    report.expect("stores", traffic.stores, total([accesses(elements, size, at_once) for size in writes]))
    report.expect("shared memory", report.shared, 0)
    report.traffic, report.elements, report.floor = traffic, elements, sum(reads) + sum(writes)
    report.instructions = kernel.fewest_instructions(path) / elements


def _prepare(report: Report, kernel: Kernel, _launch: Launch) -> None:
    """No thread stores what another stores: barriers do not order stores on every GPU."""
    report.is_listed = False
    barriers = sum(instruction.opcode.startswith(("BAR", "s_barrier")) for instruction in kernel.code)
    report.expect("barriers", barriers, 0)


def _widest_store(kernel: Kernel) -> int:
    return max(kernel.accesses, key=lambda i: (kernel.accesses[i].kind == "store", kernel.accesses[i].bytes))


# ---- gaussian_smooth ----


def _smoothing_cases() -> Iterator[Case]:
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for dtype, kernel_size, (layout, memory_format), dims in product(
        DTYPES, (3, 7), layouts.items(), ((2, 3), (2,), (3,))
    ):
        if kernel_size > 3 and len(dims) == 1:
            continue  # the same kernels
        for large in (False, True) if dtype == torch.float32 and len(dims) == 2 else (False,):
            name = f"{'x'.join('HW'[dim - 2] for dim in dims)} by {kernel_size}, {layout}, {_name(dtype)}"
            yield Case(
                name + ", 64-bit offsets" * large,
                partial(_smooth, dtype, memory_format, kernel_size, dims, large),
                len(dims) == 2 and dtype != torch.float16 and not large,
            )


def _smooth(
    dtype: torch.dtype, memory_format: torch.memory_format, kernel_size: int, dims: tuple[int, ...], large: bool
) -> None:
    x = torch.empty(2, 16, 32, 64, dtype=dtype).to(memory_format=memory_format)
    largest = 0 if large else gaussian_smooth.LARGEST_32_BIT
    with patch.object(gaussian_smooth, "LARGEST_32_BIT", largest):
        gaussian_smooth.gaussian_smooth(x, torch.tensor(1.0), kernel_size, dims)


def _smooth_nearest(report: Report, kernel: Kernel, launch: Launch) -> None:
    """Each thread smooths some rows of a group, and reads one more on either side."""
    constants, (source, target) = launch.constants, launch.arguments[:2]
    width, rows = constants["WIDTH"], constants["ROWS"]
    rows_read = rows + 2 * constants["ACROSS_ROWS"]
    own, out = _pieces(width, source), _pieces(width, target)
    halo = Counter[int]()
    if constants["ACROSS_COLUMNS"]:
        neighbour = accesses(1, source.element_size()) if constants["ADJACENT"] else own
        halo = total([neighbour] * 2 * rows_read)
    halo += total([own] * (rows_read - rows))
    own, out = total([own] * rows), total([out] * rows)
    traffic = kernel.traffic(kernel.everything)
    report.expect("loads", traffic.loads, own + halo)
    report.expect("stores", traffic.stores, out)
    report.traffic = Traffic(own, out)
    report.notes.append(f"and {_described(halo)} of the halo")
    report.elements, report.floor = width * rows, source.element_size() + target.element_size()


def _smooth_line(report: Report, kernel: Kernel, launch: Launch) -> None:
    """Each thread smooths one group, and reads two neighbours of it, or of each of its elements, at every distance; the
    loop over distances may be unrolled.
    """
    constants, (source, target) = launch.constants, launch.arguments[:2]
    width, item, is_adjacent = constants["WIDTH"], source.element_size(), constants["ADJACENT"]
    own, out = _pieces(width, source), _pieces(width, target)
    pair = total([accesses(1, item)] * width * 2) if is_adjacent else own + own
    traffic = kernel.traffic(kernel.everything)
    halo = traffic.loads - own
    report.expect("widths of loads", set(traffic.loads), set(own + pair))
    if not is_adjacent:
        report.expect("loads of a pair left over", halo.total() % pair.total(), 0)
    elif max(own) > item:
        report.expect("loads of whole groups", traffic.loads[max(own)], own.total())
    report.expect("stores", traffic.stores, out)
    report.traffic, report.elements, report.floor = Traffic(own, out), width, item + target.element_size()
    report.notes.append(f"and {_described(pair)} of the halo for every distance")


def _described(counter: Counter[int]) -> str:
    return " and ".join(f"{count} loads of {width} bytes" for width, count in counter.items())


def _pieces(count: int, tensor: Tensor) -> Counter[int]:
    return accesses(count, tensor.element_size())


# ---- tempered_cross_entropy ----


def _loss_cases() -> Iterator[Case]:
    for dtype, classes, smoothing, weighted in product(DTYPES, (64, 1000, 32000), (0.0, 0.1), (False, True)):
        is_plain, is_both = not (smoothing or weighted), bool(smoothing and weighted)
        if not (is_plain or (classes == 1000 and (is_both or dtype == torch.float32))):
            continue
        name = f"{classes} classes, {_name(dtype)}" + ", smoothed" * (smoothing > 0) + ", weighted" * weighted
        yield Case(
            name,
            partial(_loss, dtype, classes, smoothing, weighted),
            classes != 64 and dtype != torch.float16 and not smoothing and not weighted,
        )


def _loss(dtype: torch.dtype, classes: int, smoothing: float, weighted: bool) -> None:
    logits = torch.empty(128, classes, dtype=dtype)
    targets = torch.zeros(len(logits), dtype=torch.int64)
    compute = torch.float64 if logits.dtype == torch.float64 else torch.float32
    sigma = torch.ones(len(logits), dtype=compute)
    weight = torch.ones(logits.size(1), dtype=compute) if weighted else None
    result, statistics = tempered_cross_entropy.forward(logits, targets, sigma, weight, "mean", smoothing, -100)
    gradient = torch.ones_like(result)
    tempered_cross_entropy.backward(gradient, logits, targets, sigma, weight, statistics, smoothing, -100)


def _tile(launch: Launch, logits: Tensor) -> tuple[int, Counter[int]]:
    """A thread's logits, and the accesses that they take."""
    elements = launch.constants["ROWS"] * launch.constants["CLASSES"] // launch.threads
    return elements, accesses(elements, logits.element_size(), min(elements, WIDEST // logits.element_size()))


def _forward(report: Report, kernel: Kernel, launch: Launch) -> None:
    """One loop over tiles of logits."""
    logits = launch.arguments[0]
    elements, own = _tile(launch, logits)
    traffic = kernel.traffic(kernel.everything)
    [width] = own
    _expect_logits(report, launch, traffic.loads[width], own[width])
    report.traffic, report.elements, report.floor = Traffic(own, Counter()), elements, logits.element_size()


def _backward(report: Report, kernel: Kernel, launch: Launch) -> None:
    """One tile: read and written."""
    logits = launch.arguments[2]
    elements, own = _tile(launch, logits)
    traffic = kernel.traffic(kernel.everything)
    [width] = own
    _expect_logits(report, launch, traffic.loads[width], own[width])
    report.expect(f"stores of {width} bytes", traffic.stores[width], own[width])
    report.traffic, report.elements, report.floor = Traffic(own, own), elements, 2 * logits.element_size()


def _expect_logits(report: Report, launch: Launch, found: int, expected: int) -> None:
    """Weights of classes may be loaded as widely."""
    if launch.constants["SMOOTHED"] and any(argument is not None for argument in launch.arguments[3:6]):
        report.expect("logits are loaded in 128 bits", found >= expected, True)
    else:
        report.expect("loads in 128 bits", found, expected)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


CASES = {
    "optimizer_step": _optimizer_cases,
    "gaussian_smooth": _smoothing_cases,
    "tempered_cross_entropy": _loss_cases,
}
_CHECKS = {
    "update_rows": _update_rows,
    "prepare": _prepare,
    "smooth_nearest_kernel": _smooth_nearest,
    "smooth_line_kernel": _smooth_line,
    "forward_kernel": _forward,
    "backward_kernel": _backward,
}
