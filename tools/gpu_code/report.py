"""What is known of a compiled kernel, and what speaks against it."""

from dataclasses import dataclass, field

from tools.gpu_code.machine_code import Kernel, Traffic
from tools.gpu_code.targets import Target, occupancy


@dataclass
class Report:
    """One kernel for one target."""

    backend: str  # "CUDA" or "Triton"
    operation: str
    kernel: str  # with what tells it from others
    target: Target
    threads: int  # of a block
    registers: int
    spills: int  # accesses to memory of the thread itself
    shared: int
    instructions: float = 0  # for each element
    traffic: Traffic | None = None  # of a thread on the path of aligned tensors
    elements: int = 0  # that it serves
    floor: float | None = None  # bytes that must be moved for each element
    notes: list[str] = field(default_factory=list)
    is_listed: bool = True  # in the tables: of kernels that are much alike, one stands for all
    violations: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, kernel: Kernel, *, backend: str, operation: str, name: str, target: Target, threads: int, shared: int = 0
    ) -> "Report":
        report = cls(
            backend,
            operation,
            name,
            target,
            threads,
            kernel.registers,
            kernel.local_accesses,
            max(kernel.shared, shared),
        )
        if kernel.scalar_spills:
            report.notes.append(f"{kernel.scalar_spills} scalar registers are kept in a vector register")
        if kernel.local_accesses or kernel.stack:
            report.violate(f"spills: {kernel.local_accesses} accesses to local memory, {kernel.stack} bytes of stack")
        return report

    @classmethod
    def that_failed(cls, backend: str, operation: str, name: str, target: Target, error: Exception) -> "Report":
        """The last line of what a compiler says is the error."""
        report = cls(backend, operation, name, target, target.warp, 0, 0, 0, is_listed=False)
        report.violate(f"does not compile: {str(error).strip().splitlines()[-1]}")
        return report

    def violate(self, what: str) -> None:
        self.violations.append(f"{self.backend} {self.operation} {self.kernel}, {self.target.name}: {what}")

    def expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.violate(f"{what}: {found} instead of {expected}")

    @property
    def occupancy(self) -> float:
        return occupancy(self.target, self.threads, self.registers, self.shared)

    @property
    def bytes_per_element(self) -> float | None:
        return self.traffic.bytes / self.elements if self.traffic and self.elements else None
