"""A learning rate of its own for every layer, at no cost, and the curricula that live on it."""

from lerac_fast._build_info import build_info as build_info
from lerac_fast.curricula.layers import layer_groups as layer_groups
from lerac_fast.curricula.lerac import LeRaC as LeRaC

__all__ = ["LeRaC", "build_info", "layer_groups"]
