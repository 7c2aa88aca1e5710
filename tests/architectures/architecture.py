"""What the survey has to know of a model."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

_STACKS = (
    r"layers?|layer\d+|stage\d+|blocks?|h|stages?|levels|groups?|layer_groups|transformer_layers|encoder_layers"
    r"|decoder_layers|block_groups"
)
NUMBERED_BLOCKS = rf"(.*\.)?({_STACKS})\.\d+"


class Architecture(NamedTuple):
    library: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    """What the forward pass takes, as `layer_groups` has its example inputs: a tuple, or a mapping of keywords."""
    blocks: str = NUMBERED_BLOCKS
    """A regular expression for the names of the blocks that run one after the other, in the order of their numbers."""
    order: tuple[str, ...] = ()
    """Regular expressions for the names of blocks: all that one matches run before all that the next matches."""
    training: bool = True
    """Whether the model is in training mode; those that take targets then are not."""
