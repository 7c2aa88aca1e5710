"""``optimizer.step()`` on a GPU against torch's fused and foreach, on the shapes of real models.

All contenders step the same parameters with the same gradients and moments; each counts its own steps, where its
implementation wants them. Groups per tensor have unequal rates. The limit is a copy of as many bytes as a step must
move.
"""

import gc
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from benchmarks.bench_optimizer_step import OPTIONS, OURS, OURS_ONE, UPDATED, per_tensor
from benchmarks.gpu.conftest import TINY
from benchmarks.shapes import MODELS, Shapes
from lerac_fast.optim.lion import _PlainLion

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# torch's implementations: what they are called, and the options that choose them.
TORCHS = {"torch fused": {"fused": True}, "torch foreach": {"foreach": True}}


@cache
def shapes_of(model: str) -> Shapes:
    shapes = MODELS[model]()
    return [tuple(min(size, 8) for size in shape) for shape in shapes[:20]] if TINY else shapes


def parameters(shapes: Shapes, dtype: torch.dtype, device: str) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.empty(shape, dtype=dtype, device=device).normal_(0, 0.02)) for shape in shapes]
    for param in params:
        param.grad = torch.empty_like(param).normal_(0, 0.001)
    return params


def share_moments(optimizer: torch.optim.Optimizer, of: torch.optim.Optimizer) -> None:
    """The same tensors for everything but the step counts."""
    on_device = any(group.get("fused") or group.get("capturable") for group in optimizer.param_groups)
    state: dict[Any, dict[str, Any]] = defaultdict(dict)
    for param, other in of.state.items():
        state[param] = dict(other)
        if "step" in other:
            state[param]["step"] = torch.ones((), device=param.device if on_device else "cpu")
    optimizer.state = state


def contenders(name: str, params: list[nn.Parameter]) -> dict[str, Callable[[], object]]:
    options = OPTIONS[name]
    ours, torchs = getattr(lerac_fast.optim, name), getattr(torch.optim, name, _PlainLion)
    optimizers = {OURS: ours(per_tensor(params), **options), OURS_ONE: ours(params, lr=1e-7, **options)}
    if (
        name not in ("SGD", "Lion") and params[0].is_cuda
    ):  # step counts on the device, as graphs and GradScaler need them
        optimizers["lerac_fast capturable, group per tensor"] = _capturable(name, per_tensor(params))
    for label, implementation in ({"torch loop": {}} if name == "Lion" else TORCHS).items():
        if name == "Adamax" and "fused" in implementation:  # torch has none
            continue
        optimizers[f"{label}, one group"] = torchs(params, lr=1e-7, **implementation, **options)
        optimizers[f"{label}, group per tensor"] = torchs(per_tensor(params), **implementation, **options)
    optimizers[OURS].step()
    for optimizer in optimizers.values():
        if optimizer is not optimizers[OURS]:
            share_moments(optimizer, optimizers[OURS])
    return {label: optimizer.step for label, optimizer in optimizers.items()}


def _capturable(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = getattr(lerac_fast.optim, name)(groups, capturable=True, **OPTIONS[name])
    return optimizer


# AdamW everywhere; the other rules, which differ by the bytes they move, where shapes differ most.
CASES = [("AdamW", model, dtype) for model in MODELS for dtype in DTYPES]
CASES += [(name, model, "float32") for name in OPTIONS for model in ("DenseNet-121", "BERT-large") if name != "AdamW"]


@pytest.mark.parametrize(("name", "model", "dtype"), CASES)
def bench_step(compare_on_device, device: str, name: str, model: str, dtype: str) -> None:
    params = parameters(shapes_of(model), DTYPES[dtype], device)
    moved = (1 + 2 * UPDATED[name]) * sum(param.nbytes for param in params)
    compare_on_device(f"{name}, {model}, {len(params)} tensors, {dtype}", contenders(name, params), moved)
    del params
    gc.collect()


@pytest.mark.parametrize("name", OPTIONS)
def bench_host_cost(compare_on_device, device: str, name: str) -> None:
    """364 groups of one tensor of one element: launches and everything before them."""
    params = parameters([(1,)] * (20 if TINY else 364), torch.float32, device)
    compare_on_device(f"{name}, {len(params)} groups of one element", contenders(name, params))
