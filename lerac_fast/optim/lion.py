"""Lion with one fused step for all param groups."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lerac_fast._native.extension import extension
from lerac_fast.optim._engine import FusedStep


class _PlainLion(torch.optim.Optimizer):
    """Lion in torch's operations, one parameter at a time: what torch.optim, which has none, would have."""

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-4,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        fused: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize, "fused": fused}
        super().__init__(params, defaults)
        if fused:
            self._step_supports_amp_scaling = True  # a GradScaler reads it

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update_one(param, param.grad, group)
        return loss

    def _update_one(self, param: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        gradient = -gradient if group["maximize"] else gradient
        state = self.state[param]
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(param, memory_format=torch.preserve_format)
        moment = state["exp_avg"]
        if param.is_complex():  # pairs of real numbers, as in torch.optim
            param, gradient, moment = map(torch.view_as_real, (param, gradient, moment))
        direction = torch.sign(beta1 * moment + (1 - beta1) * gradient)
        moment.copy_(beta2 * moment + (1 - beta2) * gradient)
        param.mul_(1 - lr * group["weight_decay"]).sub_(lr * direction)


class Lion(FusedStep, _PlainLion):
    """Lion in one native call per step, whatever the number of param groups and learning rates.

    Every element moves by `lr`, in the direction of the sign of an interpolated momentum; the weight decay is
    decoupled, as AdamW's. There is one state, `exp_avg`, and no step count. As usual for Lion, take a learning rate 3
    to 10 times smaller than AdamW's, and a weight decay larger by as much. As `torch.sign` has it, the sign of NaN is
    0: NaN in a gradient stays in `exp_avg`, and from then on the decay alone moves the parameter's element.

    torch.optim has no Lion. What the kernels do not serve, such as complex and sparse tensors or a step that is traced,
    takes a plain step in torch's operations, with a warning.

    Source: Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2.

    Args:
        params: parameters, named parameters or param groups.
        lr: learning rate.
        betas: decay rates of the momentum, in the update and in the state; each in [0, 1).
        weight_decay: each step takes the share lr x weight_decay from the weights.
        maximize: climbs.
        fused: True leaves the division by a `torch.amp.GradScaler`'s scale to the step. False is refused.
    """

    _kind = extension.Optimizer.Lion
    _plain_step = "a plain step in torch's operations"
