"""The CUDA kernels: what each of them must do, checked in what nvcc made of it."""

import re
from collections import Counter
from collections.abc import Callable

from tools.gpu_code import nvcc, sass
from tools.gpu_code.machine_code import Kernel, Traffic
from tools.gpu_code.report import Report
from tools.gpu_code.targets import Target
from tools.gpu_code.traffic import ITEM_SIZES, NAMES, WIDEST, accesses, step_items, total


def reports(operation: str, target: Target) -> list[Report]:
    """Of all kernels of csrc/cuda/<operation>_kernels.cu."""
    found = []
    try:
        kernels = nvcc.compile_kernels(operation, target)
    except RuntimeError as error:
        return [Report.that_failed("CUDA", operation, "all kernels", target, error)]
    for (kernel_name, arguments), kernel in kernels.items():
        report = Report.of(
            kernel,
            backend="CUDA",
            operation=operation,
            name=f"{kernel_name}<{', '.join(arguments)}>",
            target=target,
            threads=_threads(operation, kernel_name),
        )
        report.is_listed = False
        _overlap(report, kernel, kernel_name)
        if kernel_name in _CHECKS:
            _CHECKS[kernel_name](report, kernel, *arguments)
        found.append(report)
    return found


def _threads(operation: str, kernel: str) -> int:
    name = {"prepare": "kPrepareThreads", "finish": "kThreadsToFinish"}.get(kernel, "kThreads")
    file = "prepare.h" if kernel == "prepare" else f"{operation}_kernels.cu"
    match = re.search(rf"constexpr int {name} = (\d+);", (nvcc.ROOT / "csrc/cuda" / file).read_text())
    assert match, f"{file}: no {name}"
    return int(match[1])


def _overlap(report: Report, kernel: Kernel, name: str) -> None:
    """Where GPUs can, `prepare` lets the next launch begin before it reads anything; and `update_rows` waits for the
    launch before, when it has read whether there was an overflow and nothing else. No other kernel does either.
    """
    for which, does, opcode, expected in (
        ("prepare", "lets the next launch begin", "PREEXIT", 0),
        ("update_rows", "waits for the launch before", "ACQBULK", 1),
    ):
        found = [i for i, instruction in enumerate(kernel.code) if instruction.opcode == opcode]
        report.expect(does, len(found), int(name == which and report.target.capability >= 90))
        for i in found:
            before = sum(kernel.code[n].access is not None for n in kernel.before([i]))
            report.expect(f"accesses before it {does}", before, expected)


def _update_rows(report: Report, kernel: Kernel, rule: str, element: str, state: str, unscales: str, size: str) -> None:
    """Loops over vectors, perhaps several times unrolled, one of which loads an unaligned gradient element by element;
    and loops over elements, for ends and other unaligned tensors.
    """
    item, state_item = ITEM_SIZES[element], ITEM_SIZES[state]
    reads, writes = step_items(rule, item, state_item, unscales == "true")
    at_once = WIDEST // item
    loops = [loop for loop in kernel.loops if WIDEST in kernel.traffic(loop).stores]
    report.expect("has a loop over vectors", bool(loops), True)
    for loop in loops:
        traffic = kernel.traffic(loop)
        # Elements: what the counter of the loop grows by is for the whole block.
        steps = sass.steps(kernel, loop)
        report.expect("one counter in the loop over vectors", len(steps), 1)
        # What unrolling has left over is counted one by one: a vector each time.
        elements = at_once if steps == {1} else max(steps, default=0) // report.threads
        times, rest = divmod(elements, at_once)
        report.expect("elements of a vector left over", rest, 0)
        param, _gradient, *states = [accesses(at_once, size) for size in reads]
        one_by_one = total([param, Counter({item: at_once}), *states] * times)
        is_aligned = traffic.loads != one_by_one
        if is_aligned:
            report.expect("loads", traffic.loads, total([accesses(at_once, size) for size in reads] * times))
        report.expect("stores", traffic.stores, total([accesses(at_once, size) for size in writes] * times))
        if is_aligned and elements > report.elements:
            report.elements, report.traffic = elements, traffic
            report.instructions = kernel.fewest_instructions(loop) / elements
    report.floor = sum(reads) + sum(writes)
    report.is_listed = (
        element != "Half" and (element != "double" or rule == "Adam") and size != "4096ul"
        and (rule == "Adam" or unscales == "false") and (rule != "Sgd" or element == state)
    )  # fmt: skip
    report.kernel = f"{rule}, {NAMES[element]}"
    report.kernel += f" + {NAMES[state]} states" * (state != element) + ", unscaling" * (unscales == "true")
    report.kernel += f", {size.removesuffix('ul')} bytes of arguments" * (not report.is_listed)


def _nearest(report: Report, kernel: Kernel, adjacent: str, count: str, element: str, _compute: str) -> None:
    """Down a strip: of every row its vector, and the two neighbours along the row, which others have loaded, too."""
    item, elements = ITEM_SIZES[element], int(count)
    halo = accesses(1 if adjacent == "true" else elements, item)
    own = accesses(elements, item)
    loops = [loop for loop in kernel.loops if kernel.traffic(loop).stores]
    report.expect("loops that store", len(loops), 1)
    for loop in loops:
        report.expect("loads", kernel.traffic(loop).loads, own + halo + halo)
        report.expect("stores", kernel.traffic(loop).stores, own)
        report.instructions = kernel.fewest_instructions(loop) / elements
    report.traffic, report.elements, report.floor = Traffic(own, own), elements, 2 * item
    report.notes.append(f"and {_described(halo + halo)} of the halo")
    report.is_listed = elements * item == WIDEST and element != "Half"
    axis = "adjacent columns" if adjacent == "true" else "columns of several elements"
    report.kernel = f"nearest, {axis}, {NAMES[element]}" + f", {count} at once" * (not report.is_listed)


def _lines(report: Report, kernel: Kernel, count: str, source: str, to: str, compute: str) -> None:
    """A vector, and two neighbours at every distance."""
    elements = int(count)
    loads, stores = accesses(elements, ITEM_SIZES[source]), accesses(elements, ITEM_SIZES[to])
    traffic = kernel.traffic(kernel.everything)
    [width] = loads
    report.expect("stores", traffic.stores, stores)
    report.expect("one vector and pairs of neighbours", traffic.loads[width] % 2, 1)
    others = set(traffic.loads) - {width, ITEM_SIZES[compute]}  # a weight may be loaded, too
    report.expect("widths of other loads", others, set())
    report.traffic, report.elements = Traffic(loads, stores), elements
    report.floor = ITEM_SIZES[source] + ITEM_SIZES[to]
    report.notes.append(f"and {_described(loads + loads)} of the halo for every distance")
    report.is_listed = elements > 1 and "Half" not in (source, to)
    report.kernel = f"lines, {NAMES[source]}" + f" to {NAMES[to]}" * (source != to) + f", {count} at once"


def _forward(
    report: Report, kernel: Kernel, threads_per_row: str, count: str, smoothes: str, element: str, compute: str
) -> None:
    """One loop over vectors of logits; with label smoothing perhaps one for weights of classes, and one for none."""
    item, elements = ITEM_SIZES[element], int(count)
    loops = _loops_over_classes(report, kernel, accesses(elements, item), ITEM_SIZES[compute], elements)
    report.expect("one pass over the logits", len(loops) <= 1 + (smoothes == "true"), True)
    report.instructions = min((kernel.fewest_instructions(loop) for loop in loops), default=0) / elements
    report.traffic, report.elements, report.floor = Traffic(accesses(elements, item), Counter()), elements, item
    report.is_listed = element != "Half" and smoothes == "false"
    report.kernel = f"forward, {threads_per_row} threads a row, {NAMES[element]}"
    report.kernel += ", label smoothing" * (smoothes == "true")


def _backward(report: Report, kernel: Kernel, count: str, smoothes: str, element: str, compute: str) -> None:
    """A loop over vectors of logits; one stores zeros for ignored rows, element by element."""
    item, elements = ITEM_SIZES[element], int(count)
    own = accesses(elements, item)
    for loop in _loops_over_classes(report, kernel, own, ITEM_SIZES[compute], elements):
        stores, loads = kernel.traffic(loop).stores, kernel.traffic(loop).loads
        report.expect("widths of stores", set(stores), set(own))
        report.expect("as many stores as loads", stores[max(own)] <= loads[max(own)], True)
        report.instructions = kernel.fewest_instructions(loop) / elements
    report.traffic, report.elements, report.floor = Traffic(own, own), elements, 2 * item
    report.is_listed = elements * item == WIDEST and element != "Half" and smoothes == "false"
    report.kernel = f"backward, {NAMES[element]}" + f", {count} at once" * (elements * item != WIDEST)
    report.kernel += ", label smoothing" * (smoothes == "true")


def _loops_over_classes(
    report: Report, kernel: Kernel, own: Counter[int], weight: int, elements: int
) -> list[set[int]]:
    [width] = own
    loops = [loop for loop in kernel.loops if kernel.traffic(loop).loads]
    for loop in loops:
        loads = kernel.traffic(loop).loads
        report.expect("widths of loads other than logits and weights", set(loads) - {width, weight}, set())
        report.expect("logits are loaded whole", loads[width] >= 1, True)
        if width != weight:
            report.expect("no more weights than logits", loads[weight] <= loads[width] * elements, True)
    report.expect("has loops over classes", bool(loops), True)
    return loops


def _described(counter: Counter[int]) -> str:
    return " and ".join(f"{count} loads of {width} bytes" for width, count in counter.items())


# By the kernel's name; they take its template arguments.
_CHECKS: dict[str, Callable[..., None]] = {
    "update_rows": _update_rows,
    "nearest": _nearest,
    "lines": _lines,
    "forward": _forward,
    "backward": _backward,
}
