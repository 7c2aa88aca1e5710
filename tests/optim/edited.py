"""An optimizer that is edited between its steps, and what is done to compare two that are edited alike."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from tests.optim.cases import Case

SHAPES = [(4, 3, 2, 2), (7,), (), (3, 5), (0,), (6,)]


@dataclass
class World:
    """An optimizer of groups of one to three parameters, and the choices of its edits."""

    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    random: random.Random
    scale: float | None = None  # of the loss, in the next step
    device: Any = "cpu"
    alive: list[object] = field(default_factory=list)  # what was replaced, so that its address is not given again

    @classmethod
    def of(cls, case: Case, seed: int, mesh: DeviceMesh | None = None, device: Any = "cpu") -> "World":
        """Of DTensors, where there is a mesh."""
        generator = torch.Generator().manual_seed(seed)
        values = [torch.randn(shape, generator=generator).to(device) for shape in SHAPES]
        if mesh is not None:
            values = [DTensor.from_local(v, mesh, [Shard(0) if v.ndim else Replicate()]) for v in values]
        params = [nn.Parameter(value) for value in values]
        grouped = [{"params": params[:1]}, {"params": params[1:4], "lr": 0.03}, {"params": params[4:]}]
        world = cls(case.fast(grouped), generator, random.Random(seed), device=device)
        for param in params:
            param.grad = world.like(param)
        return world

    def like(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, DTensor):
            return DTensor.from_local(self.like(tensor.to_local()), tensor.device_mesh, tensor.placements)
        drawn = torch.randn(tensor.shape, generator=self.generator).to(tensor)
        return torch.empty_like(tensor.detach()).copy_(drawn)

    @property
    def groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups

    @property
    def params(self) -> list[Tensor]:
        return [param for group in self.groups for param in group["params"]]

    def group(self) -> dict[str, Any]:
        return self.random.choice(self.groups)

    def param(self) -> Tensor:
        return self.random.choice(self.params)

    def state(self) -> dict[str, Any]:
        return self.optimizer.state[self.param()]

    def moment(self) -> tuple[dict[str, Any], str] | None:
        state = self.state()
        names = [name for name, value in state.items() if name != "step" and value is not None]
        return (state, self.random.choice(names)) if names else None

    def step(self) -> str | None:
        """The error, if there is one."""
        if self.scale is not None:
            self.optimizer.grad_scale = torch.tensor(self.scale, device=self.device)  # type: ignore[attr-defined]
            self.optimizer.found_inf = torch.tensor(0.0, device=self.device)  # type: ignore[attr-defined]
        try:
            self.optimizer.step()
        except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            for name in ("grad_scale", "found_inf"):
                self.optimizer.__dict__.pop(name, None)
            self.scale = None
        return None


class Attributes:
    """Of an object: they can be a dictionary, too, and are then written without it."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Attributes":
        # Of a class of its own, as how Python keeps attributes depends on all objects of a class.
        attributes = type("OfItsOwn", (cls,), {})()
        for name, value in values.items():
            setattr(attributes, name, value)
        return attributes


EDITS: dict[str, Callable[[World], object]] = {}


def edit(function: Callable[[World], object]) -> Callable[[World], object]:
    EDITS[function.__name__] = function
    return function


def tensors(world: World) -> list[Any]:
    found: list[Any] = []
    for param in world.params:
        if isinstance(param, Tensor):
            state = world.optimizer.state.get(param, {})
            found += [param.detach(), param._version, param.grad, *state.values()]
            found += [value._version for value in state.values() if isinstance(value, Tensor)]
    return found + [tensor.detach() for tensor in world.alive if isinstance(tensor, Tensor)]


def assert_same(ours: World, others: World) -> None:
    for mine, theirs in zip(tensors(ours), tensors(others), strict=True):
        if isinstance(mine, Tensor):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
        else:
            assert mine == theirs


def edit_both(name: str, *worlds: World) -> None:
    for world in worlds:
        # Not every edit is one after every other.
        with suppress(RuntimeError, ValueError, KeyError, AttributeError, TypeError):
            EDITS[name](world)


def step_both(kept: World, forgetful: World) -> None:
    forgetful.optimizer.__dict__.pop("_native_step_", None)
    assert kept.step() == forgetful.step()
    assert_same(kept, forgetful)
