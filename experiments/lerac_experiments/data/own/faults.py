"""What is wrong with single examples of one's own data: refused with a list, or left out where that is asked for."""

from collections import Counter
from dataclasses import dataclass, field

from lerac_experiments.errors import ExperimentError

SKIP = "skip-damaged"
_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """An example that cannot be used, or a part of one."""

    kind: str
    """For counting, such as "damaged images"."""
    message: str
    """Names it, and says what is wrong."""


class FaultyData(ExperimentError):
    """Some examples cannot be used, and it was not asked for to go on without them."""

    def __init__(self, message: str, faults: list[Fault]) -> None:
        super().__init__(message)
        self.faults = faults


@dataclass
class Faults:
    """Those found while data is read.

    Attributes:
        spec: how the data is called on the command line.
        skip: whether the examples are left out.
    """

    spec: str
    skip: bool
    found: list[Fault] = field(default_factory=list)

    def add(self, kind: str, message: str) -> None:
        """Notes one."""
        self.found.append(Fault(kind, message))

    @property
    def first(self) -> str:
        """What a message ends with that says that nothing is left: an example of why."""
        return f": {self.found[0].message}" if self.found else ""

    @property
    def named(self) -> dict[str, str]:
        """What is left out, and why."""
        return {fault.message: fault.kind for fault in self.found}

    def settle(self) -> str | None:
        """What a reader of the results must know of what is left out; None, nothing is.

        Raises:
            FaultyData: something would be, and that was not asked for.
        """
        if not self.found:
            return None
        if self.skip:
            return f"left out by {SKIP}: {counted(self.found)}"
        more = f" ({len(self.found) - _SHOWN:,} more)" if len(self.found) > _SHOWN else ""
        listed = "; ".join(fault.message for fault in self.found[:_SHOWN])
        raise FaultyData(
            f"data {self.spec!r} has {counted(self.found)}: {listed}{more}. Mend them, or add `,{SKIP}` to the data to "
            f"go on without them; `lerac-fast data {self.spec}` lists all",
            list(self.found),
        )


def counted(faults: list[Fault]) -> str:
    """How many there are of each kind."""
    return ", ".join(f"{kind} ({count:,})" for kind, count in Counter(fault.kind for fault in faults).items())
