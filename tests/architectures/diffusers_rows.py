"""How the models of diffusers and their inputs are made."""

from collections.abc import Callable
from functools import partial
from typing import Any

import diffusers
import torch

from tests.architectures.architecture import Architecture

Inputs = Callable[[], dict[str, Any]]


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def sample(*shape: int) -> dict[str, Any]:
    return {"sample": normal(*shape)}


def noisy(*shape: int, **others: Any) -> dict[str, Any]:
    return {"sample": normal(*shape), "timestep": torch.tensor([10] * shape[0]), **made(others)}


def hidden(*shape: int, **others: Any) -> dict[str, Any]:
    return {"hidden_states": normal(*shape), "timestep": torch.tensor([10] * shape[0]), **made(others)}


def made(shapes: dict[str, Any]) -> dict[str, Any]:
    """Tuples are shapes of random tensors; anything else is as it is."""
    return {name: normal(*value) if isinstance(value, tuple) else value for name, value in shapes.items()}


def row(
    kind: str, inputs: Inputs, blocks: str, order: tuple[str, ...] = (), label: str = "", **configuration: Any
) -> Architecture:
    name = f"{kind} ({label})" if label else kind
    # Imported now, once, not in the process of each model.
    return Architecture("diffusers", name, partial(getattr(diffusers, kind), **configuration), inputs, blocks, order)
