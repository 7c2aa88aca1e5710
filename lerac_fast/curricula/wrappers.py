"""What others wrap around a model."""

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside of DataParallel, DistributedDataParallel and torch.compile, in any order; else `model`."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    compiled = getattr(model, "_orig_mod", None)
    return unwrap(compiled) if isinstance(compiled, nn.Module) else model
