"""Adamax with one fused step for all param groups."""

import torch

from lerac_fast._native.extension import extension
from lerac_fast.optim._engine import FusedStep


class Adamax(FusedStep, torch.optim.Adamax):
    """`torch.optim.Adamax` in one native call per step, whatever the number of param groups and learning rates.

    Constructor, hyperparameters, state and checkpoints are those of `torch.optim.Adamax` of the installed torch; see
    there for the arguments. `foreach=True`, `fused=False` and `differentiable=True` are refused.

    `torch.distributed.optim.ZeroRedundancyOptimizer` takes this class, but not with `overlap_with_ddp=True`: it
    then needs a functional form, which torch has for its own classes only, and raises ValueError.
    """

    _kind = extension.Optimizer.Adamax
