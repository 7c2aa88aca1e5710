"""Initial weights other than a model's own."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import init

from lerac_experiments.settings import Initializer

INITIALIZERS: dict[Initializer, Callable[[Tensor], Tensor]] = {
    "glorot": init.xavier_uniform_,
    "he": partial(init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": init.orthogonal_,
    "normal": partial(init.normal_, std=0.02),
}

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Whose weights are drawn; those of norms and embeddings stay the model's own."""


def initialise(model: nn.Module, name: Initializer) -> None:
    """Draws the weights of dense layers and convolutions, from torch's global generator; biases become 0."""
    if name == "own":
        return
    for module in model.modules():
        if isinstance(module, LAYERS):
            weight = torch.empty(module.weight.shape)  # in its usual order in memory, whatever that of the model is
            with torch.no_grad():
                module.weight.copy_(INITIALIZERS[name](weight))
            if module.bias is not None:
                init.zeros_(module.bias)
