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
from lerac_fast import layer_groups, layer_order

SHAPES = {"364 of one element": [(1,)] * 364, "DenseNet-121's 364": MODELS["DenseNet-121"]()}


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def as_dtensors(params: list[nn.Parameter]) -> list[nn.Parameter]:
    """Copies, sharded over one rank, with copies of the gradients."""
    mesh = init_device_mesh(params[0].device.type, (1,))
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
    dtensors = as_dtensors(plain)
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
        one = torchs(as_dtensors(plain), lr=1e-7, **options, **implementation)
        optimizers[f"torch {variant}, DTensors, one group"] = one
    if torchs is not None:
        optimizers["torch foreach, DTensors, group per tensor"] = torchs(
            per_tensor(as_dtensors(plain)), foreach=True, **options
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


# Of Llama: width, width of the feed-forward layers, blocks, heads, heads of keys, words.
LLAMA = {
    "7 B": (4096, 11008, 32, 32, 32, 32_000),
    "70 B": (8192, 28672, 80, 64, 8, 128_256),
    "405 B": (16384, 53248, 126, 128, 8, 128_256),
}


@pytest.mark.parametrize("size", LLAMA)
def bench_layer_order(benchmark, size: str) -> None:
    """The depths of a model that no machine holds, on the meta device, and the groups that are made of them."""
    transformers = pytest.importorskip("transformers")
    width, feed_forward, blocks, heads, key_heads, words = LLAMA[size]
    config = transformers.LlamaConfig(
        hidden_size=width,
        intermediate_size=feed_forward,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        vocab_size=words,
        use_cache=False,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
        inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    order = benchmark.pedantic(layer_order, (model,), {"example_inputs": inputs}, rounds=1)
    groups = layer_groups(model, order=order)
    assert len(groups) == 7 * blocks + 2
    assert max(order.values()) == 4 * blocks + 2
    benchmark.extra_info |= {
        "case": f"Llama, {size}, {len(order)} tensors in {len(groups)} groups, on the meta device",
        "median_us": {"layer_order": benchmark.stats.stats.median * 1e6},
        "bytes_moved": 0,
    }
