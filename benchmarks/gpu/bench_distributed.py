"""Sharded models on one GPU (NCCL, one rank): the step on DTensors, and the training step under FSDP2."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed

import lerac_fast.optim
from benchmarks.bench_distributed import as_dtensors
from benchmarks.bench_optimizer_step import OPTIONS, UPDATED, per_tensor
from benchmarks.gpu.bench_optimizer_step import parameters, shapes_of
from benchmarks.gpu.conftest import TINY
from benchmarks.sharded_training import LAYERS, contenders


@pytest.fixture(autouse=True)
def process_group(device: str, tmp_path: Path) -> Iterator[None]:  # noqa: ARG001  # skips first
    communication = "gloo" if TINY else "cpu:gloo,cuda:nccl"
    distributed.init_process_group(communication, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("model", ["364 of one element", "DenseNet-121", "BERT-large"])
def bench_dtensors(compare_on_device, device: str, model: str) -> None:
    """AdamW, a group per tensor; torch's steps with one group beside it."""
    shapes = [(1,)] * (20 if TINY else 364) if model.startswith("364") else shapes_of(model)
    plain, options = parameters(shapes, torch.float32, device), OPTIONS["AdamW"]
    sharded = as_dtensors(plain)
    ours, torchs = lerac_fast.optim.AdamW, torch.optim.AdamW
    steps = {
        "lerac_fast, DTensors": ours(per_tensor(sharded), **options).step,
        "lerac_fast, plain tensors": ours(per_tensor(plain), **options).step,
        "torch fused, DTensors, one group": torchs(sharded, lr=1e-7, fused=True, **options).step,
        "torch foreach, DTensors, one group": torchs(sharded, lr=1e-7, foreach=True, **options).step,
    }
    compare_on_device(model, steps, (1 + 2 * UPDATED["AdamW"]) * sum(param.nbytes for param in plain))


@pytest.mark.parametrize("width", [256, 1024])
def bench_fsdp2_training_step(compare_on_device, device: str, width: int) -> None:
    """The first column is to be at most 1.005 of that of one group."""
    width, batch = (64, (2, 8)) if TINY else (width, (8, 512))
    case = f"{LAYERS} layers of width {width}, {batch[0]} x {batch[1]} tokens, bfloat16"
    compare_on_device(case, contenders(width, batch, device, torch.bfloat16), seconds=6.0, warm=False)
