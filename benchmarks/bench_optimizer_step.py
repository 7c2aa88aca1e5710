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
from torch.optim.lr_scheduler import CosineAnnealingLR

import lerac_fast.optim
from benchmarks.conftest import LIMIT, seconds_of
from benchmarks.shapes import MODELS
from benchmarks.stream_limit import stream_pass
from lerac_fast import LeRaC
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


def _settled(function: Callable[[], object]) -> float:
    """The seconds of a call that follows several of the same."""
    for _ in range(4):
        function()
    return seconds_of(function)


@pytest.mark.parametrize("shape", [(364, 1), (400, 64)], ids="{0[0]} x {0[1]}".format)
@pytest.mark.parametrize("name", OPTIONS)
def bench_repeated(compare, name: str, shape: tuple[int, int]) -> None:
    """Each contender several times in a row, on parameters of its own: what a training of a small model pays."""
    count, size = shape
    optimizers: dict[str, Callable[[], object]] = {}
    ours, torchs = getattr(lerac_fast.optim, name), getattr(torch.optim, name, _PlainLion)
    for label, make, grouped, options in (
        (OURS, ours, per_tensor, {}),
        (OURS_ONE, ours, list, {}),
        *([("torch fused, one group", torchs, list, {"fused": True})] if name not in ("Adamax", "Lion") else []),
    ):
        params = parameters([(size,)] * count, torch.float32)
        optimizers[label] = make(grouped(params), lr=1e-7, **options, **OPTIONS[name]).step
    compare(f"{name}, {count} x {size}, repeated", optimizers, bytes_moved=0, once=_settled)


@pytest.mark.parametrize("groups", [1, 364])
@pytest.mark.parametrize("name", OPTIONS)
def bench_cold(compare, name: str, groups: int) -> None:
    """Groups of one element, after 160 MB have passed through the caches."""
    params, others = parameters([(1,)] * groups, torch.float32), torch.zeros(40_000_000)
    step = getattr(lerac_fast.optim, name)(per_tensor(params), **OPTIONS[name]).step

    def cold(function: Callable[[], object]) -> float:
        others.add_(1)
        return seconds_of(function)

    compare(f"{name}, {groups} groups of one element, cold", {OURS: step}, bytes_moved=0, warm=False, once=cold)


def bench_schedulers(compare) -> None:
    """`step()` of LeRaC on 364 groups, while it runs and after it, beside a scheduler of torch's."""

    def scheduled(make: Callable[[torch.optim.Optimizer], Any]) -> Callable[[], object]:
        optimizer = torch.optim.SGD(per_tensor(parameters([(1,)] * 364, torch.float32)), lr=1e-7)
        scheduler = make(optimizer)
        for _ in range(3):
            optimizer.step()
            scheduler.step()
        step: Callable[[], object] = scheduler.step
        return step

    timed = {
        "LeRaC": scheduled(lambda optimizer: LeRaC(optimizer, 10**6, min_lr=1e-12)),
        "LeRaC, finished": scheduled(lambda optimizer: LeRaC(optimizer, 1, min_lr=1e-12)),
        "torch, cosine": scheduled(lambda optimizer: CosineAnnealingLR(optimizer, 10**6)),
    }
    compare("364 groups", timed, bytes_moved=0, once=_settled)


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
