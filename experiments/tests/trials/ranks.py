"""Two processes that train one trial together, as torchrun starts them, but forked from one that has imported torch."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

COUNT = 2


@dataclass(frozen=True)
class Ended:
    """How the processes ended."""

    statuses: list[int]
    printed: str

    @property
    def well(self) -> bool:
        return self.statuses == [0] * COUNT


def run_ranks(folder: Path, target: Callable[..., int], *args: Any) -> Ended:
    """Runs `target(*args)`, which returns an exit status, on every rank. As with torchrun, one that fails ends all.

    What they print goes to files in `folder`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["lerac_experiments.commands.run", "lerac_experiments.cli", __name__])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logs = [folder / f"rank{rank}.log" for rank in range(COUNT)]
    processes = [context.Process(target=_rank, args=(rank, port, logs[rank], target, args)) for rank in range(COUNT)]
    for process in processes:
        process.start()
    while alive := [process for process in processes if process.is_alive()]:
        wait([process.sentinel for process in alive])
        if any(process.exitcode for process in processes):
            for process in alive:
                process.terminate()
    return Ended([process.exitcode or 0 for process in processes], "\n".join(log.read_text() for log in logs))


def _rank(rank: int, port: int, log: Path, target: Callable[..., int], args: tuple[Any, ...]) -> None:
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(COUNT),
    }
    sys.exit(target(*args))
