"""Runs examples, also in the processes that tests share, as torchrun leaves those that it starts."""

import os
import runpy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import distributed

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return int(listening.getsockname()[1])


def set_environment(rank: int, ranks: int) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "OMP_NUM_THREADS": 1}
    os.environ |= {name: str(number) for name, number in numbers.items()}


def run_example(name: str, *args: Any) -> Any:
    """What `main` of an example returns."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*args)


def run_launched(rank: int, ranks: int, port: int, name: str, *args: Any) -> Any:
    """What `main` of an example returns that makes a process group of its own."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
    set_environment(rank, ranks)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    return run_example(f"distributed/{name}", *args)


@contextmanager
def cpu_for_gpus() -> Iterator[None]:
    """Accelerate takes gloo and the CPU for NCCL and GPUs: on a CPU it takes no notice of its plugin for FSDP."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    def prepare_backend(*_: Any) -> tuple[str, DistributedType]:
        if not distributed.is_initialized():
            distributed.init_process_group("gloo")
        return "gloo", DistributedType.MULTI_GPU

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_TORCH_DEVICE", "cpu")
        patch.setattr(PartialState, "_prepare_backend", prepare_backend)
        yield
