"""Models that are awkward to order: what layer_groups must get right, each as small as it can be."""

import functools
import random
from collections import Counter, deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RegisteredInReverse(nn.Module):
    """Token ids `[B, T]` -> embedding -> stacked LSTM -> logits, registered from the output."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)
        self.lstm = nn.LSTM(4, 6, num_layers=2, batch_first=True)
        self.embedding = nn.Embedding(11, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(ids))[0][:, -1])


class TiedEmbedding(nn.Module):
    """The output projection, registered first, has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(4, 11)
        self.hidden = nn.Linear(4, 4)
        self.embedding = nn.Embedding(11, 4)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(self.hidden(self.embedding(ids)))


class Functional(nn.Module):
    """All parameters lie on the model itself, registered from the output; `second` is used through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.b2 = nn.Parameter(torch.zeros(3))
        self.second = nn.Parameter(torch.randn(4, 3))
        self.b1 = nn.Parameter(torch.zeros(4))
        self.first = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.first, self.b1).relu()
        return F.linear(hidden, self.second.t(), self.b2) * self.scale


class ClassToken(nn.Module):
    """A transformer's stem: parameters of the model itself meet the data after the patch projection."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 5, 4))
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.norm = nn.LayerNorm(4)
        self.patch = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        return self.norm(x + self.position)


class Branches(nn.Module):
    """A short and a long branch, then one layer on their sum; the norm follows the deeper branch."""

    def __init__(self) -> None:
        super().__init__()
        self.short = nn.Linear(4, 4)
        self.long = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.long(x) + self.short(x)))


class WritesThroughViews(nn.Module):
    """The layers' outputs go into slices of one preallocated tensor, which the head reads."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.right = nn.Linear(4, 4)
        self.left = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(len(x), 8)
        out[:, :4] = self.left(x)
        out[:, 4:].copy_(self.right(out[:, :4]))
        return self.head(out)


class DataDependent(nn.Module):
    """Control flow that asks for the value of a tensor in one of three ways."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.head = nn.Linear(4, 2)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.how == "if":
            x = x if x.sum() > 0 else -x
        elif self.how == "item":
            x = x * max(1.0, x.abs().max().item())
        else:
            x = x[torch.nonzero(x[:, 0] > -1e9)[:, 0]]
        return self.head(x)


class Energy(nn.Module):
    """Its forward pass differentiates, which inference mode and fake tensors under it do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4, 1)
        self.first = nn.Linear(3, 4)

    def forward(self, positions: Tensor) -> Tensor:
        with torch.enable_grad():
            positions = positions.detach().requires_grad_()
            energy = self.second(self.first(positions).tanh()).sum()
            return torch.autograd.grad(energy, [positions, self.first.weight])[0]


class AuxiliaryHead(nn.Module):
    """One head runs in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.auxiliary = nn.Linear(4, 2)
        self.head = nn.Linear(4, 2)
        self.body = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        x = self.body(x)
        return (self.head(x), self.auxiliary(x)) if self.training else self.head(x)


class Unfinished(nn.Module):
    """Frozen, unused, and both."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4)
        self.frozen = nn.Linear(3, 4).requires_grad_(False)
        self.unused_and_frozen = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.frozen(x)))


class KeepsState(nn.Module):
    """Leaves traces everywhere: buffers, attributes, containers, both random states, and its own input."""

    def __init__(self, *, reads_values: bool) -> None:
        super().__init__()
        self.reads_values = reads_values
        self.norm = nn.BatchNorm1d(4, momentum=0.5)
        self.linear = nn.Linear(4, 4)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("average", torch.zeros(4))
        self.calls = 0
        self.cache: dict[str, Tensor] = {}
        self.history: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        self.calls += 1
        self.steps += 1
        random.random()
        self.average = 0.9 * self.average + 0.1 * x.mean(0)
        x = self.linear(self.norm(x)) + torch.rand_like(x)
        self.cache["x"] = self.last = x
        self.history.append(x)
        return x * x.max().item() if self.reads_values else x


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class Batch:
    """A container that torch knows nothing of, with tensors at several depths."""

    image: Tensor
    extra: dict[str, list[Pair]]


@dataclass
class Output:
    logits: Tensor


class TakesBatch(nn.Module):
    """`side` is used on what lies deep in the batch, next to `first`; `scale` is keyword-only."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.side = nn.Linear(3, 4)
        self.first = nn.Linear(3, 4)

    def forward(self, batch: Batch, *, scale: Tensor) -> Output:
        pair = batch.extra["pairs"].pop()  # what a forward pass does to its inputs must not reach the caller's
        return Output(self.head(self.first(batch.image) + self.side(pair.left + pair.right) * scale))


class TwoInputs(nn.Module):
    """`model(query, key)`, or either by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.on_key = nn.Linear(3, 4)
        self.on_query = nn.Linear(3, 4)

    def forward(self, query: Tensor, key: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(self.on_query(query) * self.on_key(key))}


class Graph(nn.Module):
    """Linear layers on a directed acyclic graph: node i takes the sum of its parents; -1 is the input.

    Args:
        parents: for every node its parents, all smaller than itself.
        registration: the order in which the nodes' layers are registered.
    """

    def __init__(self, parents: list[list[int]], registration: list[int]) -> None:
        super().__init__()
        self.parents = parents
        for node in registration:
            self.add_module(f"node{node}", nn.Linear(2, 2))

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: dict[int, Tensor] = {-1: x}
        for node, parents in enumerate(self.parents):
            outputs[node] = self.get_submodule(f"node{node}")(sum(outputs[parent] for parent in parents)).relu()
        return list(outputs.values())


class Remembers(nn.Module):
    """Keeps what it computes wherever a model can: in caches of functions, containers of any kind, plain objects."""

    class Fixed(dict):  # type: ignore[type-arg]
        """A configuration that cannot be changed, as of diffusers."""

        def update(self, *_: object) -> None:  # type: ignore[override]
            raise TypeError("read-only")

        clear = __setitem__ = update  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 8)
        self.config = self.Fixed(width=4)
        self.counts = Counter(calls=3)
        self.recent: deque[Tensor] = deque(maxlen=2)
        self.memo: dict[str, dict[str, Tensor]] = {"nested": {}}
        self.plain = SimpleNamespace(last=None, calls=0)
        self.generator = torch.Generator()

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x) * remembered_grid(8, x.device)
        self.counts["calls"] += 1
        self.recent.append(y)
        self.memo["nested"]["y"] = y
        self.plain.last, self.plain.calls = y, self.plain.calls + 1
        np.random.rand()  # noqa: NPY002, the global stream
        random.random()
        torch.rand(1, generator=self.generator)
        return y + torch.rand_like(y)


@functools.lru_cache
def remembered_grid(size: int, device: torch.device) -> Tensor:
    return torch.arange(size, dtype=torch.float32, device=device)


class Conditioned(nn.Module):
    """A chain of blocks, each with a norm, a layer on its data, and one on a condition that all of them get."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.condition, self.norm, self.weight = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Tensor, condition: Tensor) -> Tensor:
            return x + self.weight(self.norm(x) + self.condition(condition))

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.Block() for _ in range(blocks))
        self.stem = nn.Linear(4, 4)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, condition)
        return x
