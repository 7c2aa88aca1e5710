"""Which layers a model has, and in which order the data goes through them."""

from lerac_fast.layers.groups import layer_groups as layer_groups
from lerac_fast.layers.groups import layer_order as layer_order

__all__ = ["layer_groups", "layer_order"]
