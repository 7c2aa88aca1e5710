"""The update rules, slow and readable: one tensor, one operation a line, no fused multiply-add.

Each operation is rounded to the compute type, in the order in which ``csrc/math`` computes, so the kernels must agree
bit for bit. 16-bit tensors are computed in float32 and rounded once, when they are stored.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

STATE_KEYS = {
    "SGD": ("momentum_buffer",),
    "Adam": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "AdamW": ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"),
    "Adamax": ("exp_avg", "exp_inf"),
    "Lion": ("exp_avg",),
}


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def new_state(name: str, param: Tensor, group: dict[str, Any], dtype: torch.dtype | None = None) -> dict[str, Any]:
    """The state that an optimizer keeps for a parameter, before its first step."""
    if name == "SGD":
        return {}
    keys = STATE_KEYS[name] if group.get("amsgrad") else STATE_KEYS[name][:2]
    state: dict[str, Any] = {} if name == "Lion" else {"step": 0}
    return state | {key: torch.zeros_like(param, dtype=dtype or param.dtype) for key in keys}


def step(
    name: str, param: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any], scale: float = 1.0
) -> None:
    """Updates `param` and `state` in place."""
    compute = compute_dtype(param.dtype)
    p, g = param.to(compute), grad.to(compute)
    g = g * ((-1.0 if group["maximize"] else 1.0) / scale)
    rule = {"SGD": _sgd, "Adam": _adam, "AdamW": _adam, "Adamax": _adamax, "Lion": _lion}[name]
    param.copy_(rule(p, g, state, group, compute))


def _sqrt(x: Tensor) -> Tensor:
    # torch's own, from a vector library on the CPU, is one unit in the last place off for a fifth of all numbers.
    return torch.from_numpy(np.asarray(np.sqrt(x.numpy())))


def _l2(p: Tensor, g: Tensor, weight_decay: float) -> Tensor:
    return g + weight_decay * p if weight_decay != 0 else g


def _sgd(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], compute: torch.dtype) -> Tensor:
    g = _l2(p, g, group["weight_decay"])
    if group["momentum"] == 0:
        return p - group["lr"] * g
    if "momentum_buffer" in state:
        old = state["momentum_buffer"].to(compute)
        buffer = group["momentum"] * old + (1 - group["dampening"]) * g
        state["momentum_buffer"].copy_(buffer)
    else:
        buffer = g
        state["momentum_buffer"] = g.to(group["params"][0].dtype)
    direction = g + group["momentum"] * buffer if group["nesterov"] else buffer
    return p - group["lr"] * direction


def _lerp(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    return start + weight * (end - start) if weight < 0.5 else end - (end - start) * (1 - weight)


def _first_moment(g: Tensor, state: dict[str, Any], beta1: float, compute: torch.dtype) -> Tensor:
    old = state["exp_avg"].to(compute)
    m = _lerp(old, g, torch.tensor(1 - beta1, dtype=compute))
    state["exp_avg"].copy_(m)
    return m


def _adam(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], compute: torch.dtype) -> Tensor:
    if group["decoupled_weight_decay"]:
        p = p * (1 - group["lr"] * group["weight_decay"])
    else:
        g = _l2(p, g, group["weight_decay"])
    return _adam_direction(p, g, state, group, compute)


def _adam_direction(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], compute: torch.dtype) -> Tensor:
    beta1, beta2 = group["betas"]
    state["step"] += 1
    m = _first_moment(g, state, beta1, compute)
    v = beta2 * state["exp_avg_sq"].to(compute) + (1 - beta2) * g * g
    state["exp_avg_sq"].copy_(v)
    if group["amsgrad"]:
        v = torch.maximum(state["max_exp_avg_sq"].to(compute), v)
        state["max_exp_avg_sq"].copy_(v)
    step_size = group["lr"] / (1 - beta1 ** state["step"])
    denominator = _sqrt(v) * (1 / math.sqrt(1 - beta2 ** state["step"])) + group["eps"]
    return p - step_size * m / denominator


def _adamax(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], compute: torch.dtype) -> Tensor:
    beta1, beta2 = group["betas"]
    state["step"] += 1
    g = _l2(p, g, group["weight_decay"])
    m = _first_moment(g, state, beta1, compute)
    u = torch.maximum(beta2 * state["exp_inf"].to(compute), g.abs() + group["eps"])
    state["exp_inf"].copy_(u)
    step_size = group["lr"] / (1 - beta1 ** state["step"])
    return p - step_size * m / u


def _lion(p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any], compute: torch.dtype) -> Tensor:
    """Chen et al. 2023, Algorithm 2."""
    beta1, beta2 = group["betas"]
    m = state["exp_avg"].to(compute)
    direction = torch.sign(beta1 * m + (1 - beta1) * g)
    state["exp_avg"].copy_(beta2 * m + (1 - beta2) * g)
    return p * (1 - group["lr"] * group["weight_decay"]) - group["lr"] * direction
