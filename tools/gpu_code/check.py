"""Compiles everything in two processes and collects what was found."""

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from tools.gpu_code import nvcc
from tools.gpu_code.report import Report
from tools.gpu_code.targets import AMD, NVIDIA, TARGETS

OPERATIONS = ("optimizer_step", "gaussian_smooth", "tempered_cross_entropy")
PROCESSES = 2
# Parts that an operation's Triton kernels are compiled in, so that both processes have work to the end.
PARTS = 3


@dataclass
class Findings:
    reports: list[Report] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)  # a backend that was not checked, and why

    @property
    def violations(self) -> list[str]:
        return [violation for report in self.reports for violation in report.violations]

    def of(self, backend: str) -> list[Report]:
        return [report for report in self.reports if report.backend == backend]


@dataclass(frozen=True)
class Task:
    backend: str
    operation: str
    target: str
    part: int = 0


def tasks(with_cuda: bool) -> Iterator[Task]:
    """The longest first."""
    for operation in OPERATIONS:
        if with_cuda:
            yield from (Task("CUDA", operation, target.name) for target in NVIDIA)
        for target in (*NVIDIA, *AMD):
            yield from (Task("Triton", operation, target.name, part) for part in range(PARTS))


def check() -> Findings:
    """Of all kernels for all targets, in an order that depends on nothing."""
    findings = Findings()
    if absence := nvcc.absence():
        findings.absent["CUDA"] = absence
    todo = list(tasks(with_cuda="CUDA" not in findings.absent))
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _prepare_process) as processes:
        running = {processes.submit(_run, task): i for i, task in enumerate(todo)}
        done = {running[future]: future.result() for future in as_completed(running)}
    reports = [report for i in range(len(todo)) for report in done[i]]
    findings.reports = list({(r.backend, r.operation, r.kernel, r.target.name): r for r in reports}.values())
    return findings


def _prepare_process() -> None:
    os.nice(5)
    os.environ.pop("TRITON_INTERPRET", None)  # with it, nothing would be compiled
    # Triton's own cache goes by all that a kernel is compiled from.
    os.environ["TRITON_CACHE_DIR"] = str(nvcc.BUILD / "triton")


def _run(task: Task) -> list[Report]:
    # Imported here, as triton reads the environment when it is imported.
    if task.backend == "CUDA":
        from tools.gpu_code import cuda_kernels

        return cuda_kernels.reports(task.operation, TARGETS[task.target])
    from tools.gpu_code import triton_kernels

    return triton_kernels.reports(task.operation, TARGETS[task.target], task.part, PARTS)
