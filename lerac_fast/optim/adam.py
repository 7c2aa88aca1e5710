"""Adam with one fused step for all param groups."""

import torch

from lerac_fast._native.extension import extension
from lerac_fast.optim._engine import FusedStep


class Adam(FusedStep, torch.optim.Adam):
    """`torch.optim.Adam` in one native call per step, whatever the number of param groups and learning rates.

    Constructor, hyperparameters, state and checkpoints are those of `torch.optim.Adam` of the installed torch; see
    there for the arguments. `foreach=True`, `fused=False` and `differentiable=True` are refused.

    With `fused=True`, as in torch, a `torch.amp.GradScaler` leaves the division by its scale to the step, and
    nobody waits for a GPU; without, it divides first, so that hooks and clipping see the gradients as they are.

    `torch.distributed.optim.ZeroRedundancyOptimizer` takes this class, but not with `overlap_with_ddp=True`: it
    then needs a functional form, which torch has for its own classes only, and raises ValueError.
    """

    _kind = extension.Optimizer.Adam
