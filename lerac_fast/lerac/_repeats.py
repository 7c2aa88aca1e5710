"""Accelerate calls `step()` of a scheduler that it has prepared several times for one step of the optimizer."""

import sys
from types import FrameType

from torch.optim import Optimizer
from torch.optim.lr_scheduler import SequentialLR


class Repeats:
    """Tells the calls that repeat one for the same step of the optimizer.

    Accelerate (`AcceleratedScheduler`) makes as many calls as there are processes, as for the steps of one process that
    took all their batches. Only its calls are judged, and in a row fewer of them are repeats than there are processes:
    where steps are not seen, as when a CUDA graph replays them, a schedule still goes on. Everybody else's calls count.
    """

    def __init__(self) -> None:
        self._seen: object = None
        self._in_a_row = 0

    def has(self, optimizer: Optimizer) -> bool:
        """Whether this call of `step()` is a repeat."""
        calls = _calls_of_accelerate(sys._getframe(1))
        if calls == 1:
            return False
        seen = _last_step(optimizer)
        if seen is None or seen is not self._seen or self._in_a_row == calls - 1:
            self._seen, self._in_a_row = seen, 0
            return False
        self._in_a_row += 1
        return True


def _calls_of_accelerate(frame: FrameType | None) -> int:
    """How many calls Accelerate may make for one step of the optimizer, if it is among the callers; 1 if not.

    A SequentialLR counts its calls, so in one, LeRaC does as well: its k and the milestones must agree.
    """
    if "accelerate.scheduler" not in sys.modules:
        return 1
    while frame is not None and frame.f_code is not SequentialLR.step.__code__:
        if frame.f_globals.get("__name__") == "accelerate.scheduler":
            processes: int = sys.modules["accelerate.state"].AcceleratorState().num_processes
            return processes
        frame = frame.f_back
    return 1


def _last_step(optimizer: Optimizer) -> object:
    """What stands for the last step of the optimizer, and for no other; None if none has been seen.

    Every scheduler wraps the step of its optimizer so that this flag is True from then on. It stays true here.
    """
    if getattr(optimizer, "_opt_called", None) is True:
        optimizer._opt_called = object()  # type: ignore[attr-defined]
    return getattr(optimizer, "_opt_called", None)
