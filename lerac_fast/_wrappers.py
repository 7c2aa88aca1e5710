"""What others wrap around a model."""

from collections.abc import Container

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside of DataParallel, DistributedDataParallel and torch.compile, in any order; else `model`."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrap(model.module)
    compiled = getattr(model, "_orig_mod", None)
    return unwrap(compiled) if isinstance(compiled, nn.Module) else model


def named_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of an unwrapped model by all of their names, as a shared one has several; what wrappers add to them
    is left out."""
    return {
        unwrapped_name(name): module
        for name, module in model.named_modules(remove_duplicate=False)
        if unwrap(module) is module
    }


def unwrapped_name(name: str) -> str:
    """The name of a module or a tensor without what torch.compile, FullyShardedDataParallel and activation
    checkpointing add to its path."""
    return ".".join(part for part in name.split(".") if part not in _ADDED)


def name_among(names: Container[str], name: str) -> str:
    """What a parameter of a wrapped model, by whatever name, is called among the `names` of the unwrapped one."""
    name = unwrapped_name(name)
    return name if name in names else name.removeprefix("module.")  # of DistributedDataParallel and DataParallel


_ADDED = {"", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
