"""Where curriculum by smoothing acts on a model that was not made for it."""

import inspect
import re
from typing import Any

from torch import nn

from lerac_fast.cbs.sites import Pattern, Tokens, Where


def smoothing_of(model: nn.Module) -> Where | None:
    """The outputs of the blocks of a transformer, along its tokens; else those of recurrent layers along time; else
    None, which stands for convolutions wider than 1, where CBS acts by its paper.

    Blocks are the members of a list of modules that all have attention in them, and that give out tokens. Class tokens
    and the grid of image patches are left alone and followed where the model tells them, as those of timm and
    torchvision do; padding where blocks are told of it, as those of transformers and torch are. A model that has an
    attribute `smoothing` says itself where, as the argument `where` of CBS.
    """
    own: Where | None = getattr(model, "smoothing", None)
    if own is not None and not isinstance(own, nn.Module):
        return own
    blocks: dict[Pattern, Tokens | None] = {
        re.escape(f"{name}.{number}" if name else number): tokens
        for name, module in model.named_modules()
        for number, block in module.named_children()
        if isinstance(module, nn.ModuleList | nn.Sequential) and (tokens := _tokens(model, block)) is not None
    }
    if blocks:
        return blocks
    recurrent: dict[Pattern, Tokens | None] = {
        re.escape(name): Tokens(axis=1 if module.batch_first else 0)
        for name, module in model.named_modules()
        if isinstance(module, nn.RNNBase) and name
    }
    return recurrent or None


def _tokens(model: nn.Module, block: nn.Module) -> Tokens | None:
    """How a block of a transformer is smoothed; None of something else."""
    if isinstance(block, nn.TransformerEncoderLayer):
        return Tokens(axis=1 if block.self_attn.batch_first else 0, padding="src_key_padding_mask")
    attention = [child for child in block.children() if "attention" in type(child).__name__.lower()]
    if not attention:
        return None
    class_tokens, grid = _patches(model)
    if grid is None and "attention_mask" in inspect.signature(block.forward).parameters:  # transformers', for texts
        return Tokens(class_tokens=1, padding="attention_mask")
    return None if grid is None else Tokens(class_tokens=class_tokens, grid=grid)


def _patches(model: Any) -> tuple[int, tuple[int, int] | None]:
    """The class tokens, and the grid of the patches, of a vision transformer: timm's, torchvision's, transformers'."""
    config: Any = getattr(model, "config", None)
    if hasattr(config, "patch_size") and hasattr(config, "image_size"):
        height, width = (config.image_size,) * 2 if isinstance(config.image_size, int) else config.image_size
        return 1, (height // config.patch_size, width // config.patch_size)
    if hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed"):
        return model.num_prefix_tokens, tuple(model.patch_embed.grid_size)
    if hasattr(model, "class_token") and hasattr(model, "patch_size") and hasattr(model, "image_size"):
        side = model.image_size // model.patch_size
        return 1, (side, side)
    return 0, None
