"""What TensorBoard shows of a trial."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Log = Callable[[dict[str, float], int], None]
"""Takes what is known of an epoch, and its number from 1."""


@contextmanager
def training_log(folder: Path | None, epochs_done: int) -> Iterator[Log]:
    """Writes epochs into a folder, after those that were done before; nowhere, without one."""
    if folder is None:
        yield lambda *_: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=epochs_done + 1) as writer:

        def write(epoch: dict[str, float], number: int) -> None:
            for name, value in epoch.items():
                writer.add_scalar(name, value, number)

        yield write
