"""The whole ``optimizer.step()``, Python included, against torch's own and DeepSpeed's, on the shapes of real models.

All contenders step the same parameters with the same gradients and, as states are interchangeable, the same states.
Groups per tensor have unequal rates.
"""

import gc
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from benchmarks.conftest import LIMIT
from benchmarks.shapes import MODELS
from benchmarks.stream_limit import stream_pass
from lerac_fast.optim.lion import _PlainLion

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from deepspeed.ops.adam import DeepSpeedCPUAdam
except ImportError:
    DeepSpeedCPUAdam = None

OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "weight_decay": 1e-4},
    "Adam": {"weight_decay": 1e-4},
    "AdamW": {"weight_decay": 1e-2},
    "Adamax": {"weight_decay": 1e-4},
    "Lion": {"weight_decay": 1e-2},
}
# Arrays of the parameter's size that a step reads and writes: the parameter and its states.
UPDATED = {"SGD": 2, "Adam": 3, "AdamW": 3, "Adamax": 3, "Lion": 2}

OURS, OURS_ONE = "lerac_fast, group per tensor", "lerac_fast, one group"


def parameters(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    params = []
    for shape in shapes:
        param = nn.Parameter(torch.empty(shape, dtype=dtype).normal_(0, 0.02, generator=generator))
        param.grad = torch.empty(shape, dtype=dtype).normal_(0, 0.001, generator=generator)
        params.append(param)
    return params


def per_tensor(params: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Unequal rates, too small to move the weights far over thousands of steps."""
    return [{"params": [param], "lr": 1e-7 * (1 + i % 7)} for i, param in enumerate(params)]


def contenders(name: str, params: list[nn.Parameter], large: bool) -> dict[str, Callable[[], object]]:
    options = OPTIONS[name]
    ours, torchs = getattr(lerac_fast.optim, name), getattr(torch.optim, name, _PlainLion)
    optimizers = {OURS: ours(per_tensor(params), **options), OURS_ONE: ours(params, lr=1e-7, **options)}
    if name == "Lion":  # torch has none
        optimizers["torch loop, one group"] = torchs(params, lr=1e-7, **options)
    elif name == "Adamax":  # torch has no fused one
        optimizers["torch foreach, one group"] = torchs(params, lr=1e-7, foreach=True, **options)
        optimizers["torch loop, one group"] = torchs(params, lr=1e-7, foreach=False, **options)
    else:
        optimizers["torch fused, one group"] = torchs(params, lr=1e-7, fused=True, **options)
    if not large:
        if name not in ("Adamax", "Lion"):
            optimizers["torch fused, group per tensor"] = torchs(per_tensor(params), fused=True, **options)
        optimizers["torch default, group per tensor"] = torchs(per_tensor(params), **options)
    state = optimizers[OURS].state
    for optimizer in optimizers.values():
        optimizer.state = state
    if DeepSpeedCPUAdam is not None and name in ("Adam", "AdamW") and params[0].dtype == torch.float32 and not large:
        optimizers["DeepSpeed CPUAdam, one group"] = DeepSpeedCPUAdam(
            params, lr=1e-7, adamw_mode=name == "AdamW", **options
        )
    return {label: optimizer.step for label, optimizer in optimizers.items()}


def run(compare, name: str, model: str, dtype: torch.dtype) -> None:
    params = parameters(MODELS[model](), dtype)
    numel = sum(param.numel() for param in params)
    size = dtype.itemsize * numel
    timed = contenders(name, params, large=numel > 10**8)
    timed[LIMIT] = stream_pass(size, UPDATED[name])
    tensors = f"{model}, {len(params)} tensors, {numel / 1e6:.1f} M"
    compare(f"{name}, {tensors}, {str(dtype)[6:]}", timed, bytes_moved=size * (1 + 2 * UPDATED[name]))
    del params, timed
    gc.collect()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OPTIONS)
def bench_float32(compare, name: str, model: str) -> None:
    run(compare, name, model, torch.float32)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def bench_bfloat16(compare, name: str, model: str) -> None:
    run(compare, name, model, torch.bfloat16)


@pytest.mark.parametrize("name", OPTIONS)
def bench_host_cost(compare, name: str) -> None:
    """364 groups of one tensor of one element: everything but the arithmetic."""
    params = parameters([(1,)] * 364, torch.float32)
    compare(f"{name}, 364 groups of one element", contenders(name, params, large=False), bytes_moved=0)


@pytest.mark.parametrize("groups", [1, 4, 16, 64, 364])
def bench_number_of_groups(compare, groups: int) -> None:
    """DenseNet-121's 364 tensors divided evenly among param groups; the picture in the README."""
    params = parameters(MODELS["DenseNet-121"](), torch.float32)

    def divided() -> list[dict[str, Any]]:  # anew for each optimizer, which writes its defaults into them
        bounds = [len(params) * g // groups for g in range(groups + 1)]
        return [{"params": params[a:b], "lr": 1e-7 * (1 + a % 7)} for a, b in itertools.pairwise(bounds)]

    options = OPTIONS["AdamW"]
    optimizers: dict[str, torch.optim.Optimizer] = {
        "lerac_fast": lerac_fast.optim.AdamW(divided(), **options),
        "torch fused": torch.optim.AdamW(divided(), fused=True, **options),
        "torch default": torch.optim.AdamW(divided(), **options),
    }
    for optimizer in optimizers.values():
        optimizer.state = optimizers["lerac_fast"].state
    numel = sum(param.numel() for param in params)
    timed = {label: optimizer.step for label, optimizer in optimizers.items()}
    compare(f"{groups} groups", timed, bytes_moved=4 * numel * (1 + 2 * UPDATED["AdamW"]))
