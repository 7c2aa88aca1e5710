"""A real forward and backward pass: its gradients, and what its graph says of the order of the parameters."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import Node

from lerac_fast.layers.groups import call_arguments


def seed(number: int) -> None:
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002, the generator that libraries use
    torch.manual_seed(number)


class RealPass(NamedTuple):
    gradients: dict[str, torch.Tensor]
    before: dict[str, set[str]]
    """Of each parameter, those on whose use each of its uses depends."""


def real_pass(model: nn.Module, inputs: Any) -> RealPass:
    args, kwargs = call_arguments(model, inputs, None)
    seed(1)
    model.zero_grad()
    loss = sum(tensor.float().cos().mean() for tensor in _differentiable(model(*args, **kwargs)))
    if not isinstance(loss, torch.Tensor):
        raise ValueError("no output has a gradient")
    before = _dependencies(loss, model)
    loss.backward()
    return RealPass({n: p.grad for n, p in model.named_parameters() if p.grad is not None}, before)


def _differentiable(output: Any, seen: set[int] | None = None) -> Iterator[torch.Tensor]:
    seen = set() if seen is None else seen
    if id(output) in seen:
        return
    seen.add(id(output))
    if isinstance(output, torch.Tensor):
        if output.requires_grad and output.numel() and output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _differentiable(value, seen)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _differentiable(value, seen)
    elif is_dataclass(output):
        for field in fields(output):
            yield from _differentiable(getattr(output, field.name), seen)


def _dependencies(loss: torch.Tensor, model: nn.Module) -> dict[str, set[str]]:
    """From the graph of autograd, which knows nothing of how `layer_groups` measures."""
    names = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    below: dict[Node, frozenset[str]] = {}
    uses: dict[str, list[frozenset[str]]] = {}
    for node in _post_order(loss.grad_fn):
        if _parameter(node, names) is not None:  # a leaf, or a view of it, is no use
            continue
        inputs = [child for child, _ in node.next_functions if child is not None]
        parameters = {name for child in inputs if (name := _parameter(child, names)) is not None}
        behind = [below[child] for child in inputs if _parameter(child, names) is None]
        data = behind[0] if len(behind) == 1 else frozenset().union(*behind)
        for name in parameters:
            uses.setdefault(name, []).append(data)
        below[node] = data | parameters if parameters - data else data
    return {name: set(frozenset.intersection(*of)) - {name} for name, of in uses.items()}


def _parameter(node: Node, names: dict[int, str]) -> str | None:
    """The parameter that a node is a use of: its leaf, or a view of it, such as its transpose."""
    while not hasattr(node, "variable"):
        if node.name() not in (
            "TBackward0",
            "ViewBackward0",
            "TransposeBackward0",
            "PermuteBackward0",
            "ToCopyBackward0",
        ):
            return None
        node = node.next_functions[0][0]
        if node is None:
            return None
    return names.get(id(node.variable))


def _post_order(root: Node | None) -> Iterator[Node]:
    done: set[Node] = set()
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if node is None or (node in done and not expanded):
            continue
        if expanded:
            yield node
            continue
        done.add(node)
        stack.append((node, True))
        stack.extend((child, False) for child, _ in node.next_functions)
