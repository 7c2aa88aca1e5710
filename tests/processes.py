"""A few processes with a process group, that run a function of a test together."""

import multiprocessing
import os
import pickle
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from tests.kernels import KERNELS

IS_TORCH_2_9 = torch.__version__.startswith("2.9.")  # what it lacks and torch 2.14 has

# Against hangs alone: of a collective that waits for a process that has failed, and of a function, which takes seconds.
COLLECTIVE_TIMEOUT = timedelta(minutes=5)
FUNCTION_TIMEOUT = timedelta(minutes=10)
# What takes long to import, and what torch imports at the first use of many things.
PRELOADED = [
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed.checkpoint",
    "torch._dynamo",
    "pytest",
]


class Processes:
    """Started at the first function, and anew after one that has failed: some may be waiting for the others then."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._running: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def run(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What `function(rank, *args)` returns in each process. AssertionError, with the traceback, where one fails."""
        if not self._running:
            self._start()
        try:
            for _, connection in self._running:
                connection.send_bytes(pickle.dumps((function, args)))
            return self._results()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        context = multiprocessing.get_context("forkserver")  # which imports it once for all
        context.set_forkserver_preload(PRELOADED)
        for rank in range(self.count):
            ours, theirs = context.Pipe()
            store = str(Path(self._folder.name) / "store")
            process = context.Process(target=_serve, args=(theirs, rank, self.count, store), daemon=True)
            process.start()
            theirs.close()
            self._running.append((process, ours))

    def _results(self) -> list[Any]:
        results: dict[int, Any] = {}
        ranks = {connection: rank for rank, (_, connection) in enumerate(self._running)}
        end = time.monotonic() + FUNCTION_TIMEOUT.total_seconds()
        while len(results) < self.count:
            waiting = [connection for connection, rank in ranks.items() if rank not in results]
            ready = wait(waiting, timeout=max(0.0, end - time.monotonic()))
            if not ready:
                silent = [rank for rank in ranks.values() if rank not in results]
                raise AssertionError(f"ranks {silent} gave no answer within {FUNCTION_TIMEOUT}")
            for connection in ready:
                rank = ranks[connection]  # type: ignore[index]
                try:
                    succeeded, result = pickle.loads(connection.recv_bytes())  # type: ignore[union-attr]
                except EOFError:
                    raise AssertionError(f"rank {rank} has died") from None
                if not succeeded:
                    raise AssertionError(f"rank {rank} of {self.count}:\n{result}")
                results[rank] = result
        return [results[rank] for rank in range(self.count)]

    def stop(self) -> None:
        for process, connection in self._running:
            process.kill()
            process.join()
            connection.close()
        self._running = []
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


def shared(count: int) -> Iterator[Processes]:
    """For the fixture of a file. Skipped where they would not run what is tested: they import lerac_fast anew, with
    the CPU's kernels.
    """
    if KERNELS != "cpu" or "LERAC_FAST_TESTED_BUILD" in os.environ:
        pytest.skip("about processes of their own, which run the installed build and the CPU's kernels")
    processes = Processes(count)
    yield processes
    processes.stop()


def _serve(connection: Connection, rank: int, count: int, store: str) -> None:
    """Runs functions until the tests' process closes its end, or dies."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=count, timeout=COLLECTIVE_TIMEOUT
    )
    while True:
        try:
            function, args = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.filterwarnings("ignore", "TypedStorage is deprecated")  # by torch 2.9's checkpoints themselves
                answer = True, function(rank, *args)
        except BaseException:
            answer = False, traceback.format_exc()
        connection.send_bytes(pickle.dumps(answer))
