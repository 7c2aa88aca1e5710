"""All that can be seen of a model and of the process around it, to be compared before and after a call."""

import gc
import random
import zlib
from collections import deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

_BY_IDENTITY = (type, ModuleType, FunctionType, BuiltinFunctionType, torch.dtype, torch.device, torch.Generator)
_BY_VALUE = (str, bytes, int, float, complex, bool, type(None))


class Fingerprint:
    """Of each attribute of a model, however deep, what it is and what it holds."""

    def __init__(self, model: nn.Module) -> None:
        self._seen: dict[int, Any] = {}  # keeps what was seen alive, so that no identity is given out again
        self.entries = dict(self._walk("model", model))
        self.entries |= process_state()

    def differences(self, other: "Fingerprint") -> list[str]:
        paths = self.entries.keys() | other.entries.keys()
        return sorted(path for path in paths if self.entries.get(path) != other.entries.get(path))

    def _walk(self, path: str, thing: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(thing, _BY_VALUE):
            yield path, (type(thing), repr(thing))
            return
        yield path, (type(thing), id(thing))
        if id(thing) in self._seen or isinstance(thing, _BY_IDENTITY):
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, torch.Tensor):
            yield f"{path}:tensor", _tensor_state(thing)
        elif isinstance(thing, np.ndarray):
            yield f"{path}:array", zlib.crc32(thing.tobytes())
        else:
            yield from self._walk_parts(path, thing)

    def _walk_parts(self, path: str, thing: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(thing, dict):
            yield f"{path}:keys", [repr(key) if isinstance(key, _BY_VALUE) else id(key) for key in thing]
            for number, value in enumerate(thing.values()):
                yield from self._walk(f"{path}[{number}]", value)
        elif isinstance(thing, list | tuple | deque):
            yield f"{path}:length", len(thing)
            for number, value in enumerate(thing):
                yield from self._walk(f"{path}[{number}]", value)
        elif isinstance(thing, set | frozenset):
            yield f"{path}:members", sorted(repr(m) if isinstance(m, _BY_VALUE) else str(id(m)) for m in thing)
        elif isinstance(thing, MethodType):
            yield from self._walk(f"{path}.__self__", thing.__self__)
        # Subclasses of the containers have attributes, too.
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            yield f"{path}:attributes", list(attributes)
            for name, value in attributes.items():
                yield from self._walk(f"{path}.{name}", value)


def _tensor_state(tensor: torch.Tensor) -> tuple[Any, ...]:
    return (
        isinstance(tensor, FakeTensor),
        tensor.dtype,
        tuple(tensor.shape),
        tensor.stride() if tensor.layout == torch.strided else None,
        tensor.device,
        tensor.requires_grad,
        tensor.is_leaf,
        tensor._version if not tensor.is_inference() else 0,
        id(tensor.grad) if tensor.is_leaf else None,
        id(tensor.grad_fn),
        tensor.data_ptr(),
        _content(tensor),
    )


def _content(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy()) if tensor.numel() else 0


def process_state() -> dict[str, Any]:
    return {
        "process: random state of python": random.getstate(),
        "process: random state of numpy": repr(np.random.get_state()),  # noqa: NPY002, the state that libraries use
        "process: random state of torch": _content(torch.get_rng_state()),
        "process: gradients on": torch.is_grad_enabled(),
        "process: default dtype": torch.get_default_dtype(),
        "process: threads": torch.get_num_threads(),
        "process: garbage collection on": gc.isenabled(),
    }


def fake_tensors() -> int:
    for _ in range(3):  # what one round frees may let go of more
        gc.collect()
    return sum(type(thing) is FakeTensor for thing in gc.get_objects())
