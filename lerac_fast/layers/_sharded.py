"""Models that torch.distributed has spread over processes: what they are like when they are whole."""

import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

from torch import nn


def is_sharded(model: nn.Module) -> bool:
    """Whether tensors of the model are DTensors, as of fully_shard and tensor parallelism."""
    module = sys.modules.get("torch.distributed.tensor")  # without it there are none
    return module is not None and any(isinstance(t, module.DTensor) for t in chain(model.parameters(), model.buffers()))


def reshard(model: nn.Module) -> None:
    """Registers the parameters that an optimizer steps, where a forward pass has left gathered ones in their place."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is not None:
        for module in model.modules():
            if isinstance(module, fsdp.FSDPModule):
                module.reshard()


def remove_distributing_hooks(model: nn.Module) -> None:
    """Those by which torch.distributed gathers parameters, and distributes inputs and outputs."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if _is_distributing(hook)]:
                del hooks[key]


def _is_distributing(hook: Callable[..., Any]) -> bool:
    return getattr(hook, "__module__", "").startswith("torch.distributed.")
