"""Sharded models, over gloo: the step on DTensors against that on plain tensors, and the training step under FSDP2.

Of the former, DTensors are sharded over one rank, so that what lies in the process is what the plain tensors hold.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

import lerac_fast.optim
from benchmarks.bench_optimizer_step import OPTIONS, UPDATED, parameters, per_tensor
from benchmarks.shapes import MODELS
from benchmarks.sharded_training import LAYERS, contenders, led

SHAPES = {"364 of one element": [(1,)] * 364, "DenseNet-121's 364": MODELS["DenseNet-121"]()}


@pytest.fixture(scope="module")
def process_group(tmp_path_factory) -> Iterator[None]:
    store = tmp_path_factory.mktemp("store") / "store"
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _sharded(params: list[nn.Parameter]) -> list[nn.Parameter]:
    mesh = init_device_mesh("cpu", (1,))
    sharded = []
    for param in params:
        dtensor = nn.Parameter(DTensor.from_local(param.detach().clone(), mesh, [Shard(0)]))
        dtensor.grad = DTensor.from_local(param.grad.clone(), mesh, [Shard(0)])
        sharded.append(dtensor)
    return sharded


@pytest.mark.usefixtures("process_group")
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", OPTIONS)
def bench_dtensors(compare, name: str, shapes: str) -> None:
    """A group per tensor, and torch's own steps with one group beside it."""
    plain = parameters(SHAPES[shapes], torch.float32)
    dtensors = _sharded(plain)
    options = OPTIONS[name]
    ours, torchs = getattr(lerac_fast.optim, name), getattr(torch.optim, name, None)
    optimizers: dict[str, torch.optim.Optimizer] = {
        "lerac_fast, DTensors": ours(per_tensor(dtensors), **options),
        "lerac_fast, plain tensors": ours(per_tensor(plain), **options),
    }
    variants: dict[str, dict[str, Any]] = {"foreach": {"foreach": True}}
    if name in ("Adam", "AdamW"):  # whose fused steps alone torch has for DTensors
        variants["fused"] = {"fused": True}
    for variant, implementation in variants.items() if torchs is not None else ():
        one = torchs(_sharded(plain), lr=1e-7, **options, **implementation)
        optimizers[f"torch {variant}, DTensors, one group"] = one
    if torchs is not None:
        optimizers["torch foreach, DTensors, group per tensor"] = torchs(
            per_tensor(_sharded(plain)), foreach=True, **options
        )
    timed: dict[str, Callable[[], object]] = {label: optimizer.step for label, optimizer in optimizers.items()}
    numel = sum(param.numel() for param in plain)
    compare(f"{name}, {shapes}", timed, bytes_moved=4 * numel * (1 + 2 * UPDATED[name]))


@pytest.mark.parametrize("ranks", [1, 2])
def bench_fsdp2_training_step(compare, tmp_path: Path, ranks: int) -> None:
    """The first column is to be at most 1.005 of that of one group."""
    width, batch = 256, (4, 64)
    case = f"{LAYERS} layers of width {width}, {batch[0]} x {batch[1]} tokens a rank, {ranks} ranks"
    with led(ranks, str(tmp_path / "store"), partial(contenders, width, batch)) as steps:
        compare(case, steps, bytes_moved=0, seconds=150.0, warm=False)
