"""What a forward pass in this process leaves behind, and how to take it back as far as that is possible."""

import functools
import gc
import random
import sys
import warnings
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

_CONTAINERS = (OrderedDict, dict, list, set, deque)


@contextmanager
def left_as_found(model: nn.Module) -> Iterator[None]:
    """Restores the attributes of all modules, the containers among them at any depth, and the random streams."""
    found = {id(container): (container, _content(container)) for container in _containers(model)}
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    with random_streams_kept(devices):
        try:
            yield
        finally:
            for container, content in found.values():
                _restore(container, content)


@contextmanager
def random_streams_kept(devices: set[torch.device]) -> Iterator[None]:
    """Restores the global random streams of Python, of NumPy if it is loaded, and of torch on the CPU and `devices`."""
    python_state = random.getstate()
    numpy = sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy is not None else None
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for device in devices:
            if device.type not in ("cpu", "meta"):
                stack.enter_context(torch.random.fork_rng([device], device_type=device.type))
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


@contextmanager
def plain_execution() -> Iterator[None]:
    """Turns off what runs many layers as one operation: compiled code and the fused transformer layer."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            # Recurrent modules on a GPU look at the addresses of their weights, and fake ones have none.
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def held(model: nn.Module, kind: type[Any]) -> list[Any]:
    """The objects of a kind that the attributes of modules and the containers among them hold."""
    return [value for container in _containers(model) for value in _values(container) if isinstance(value, kind)]


def living(kind: type[Any]) -> list[Any]:
    """All objects of this very type in the process."""
    gc.collect()
    return [item for item in gc.get_objects() if type(item) is kind]


def clear_caches_with(objects: list[Any]) -> None:
    """Clears the caches of functions (`functools.lru_cache`) that hold any of these."""
    wanted = set(map(id, objects))
    for wrapper in living(functools._lru_cache_wrapper):
        if _holds(wrapper, wanted):
            wrapper.cache_clear()


def _holds(root: Any, wanted: set[int]) -> bool:
    seen: set[int] = set()
    pending = gc.get_referents(root)
    while pending:
        item = pending.pop()
        if id(item) in wanted:
            return True
        inner = isinstance(item, (*_CONTAINERS, tuple)) or "lru_list_elem" in type(item).__name__
        if inner and id(item) not in seen:
            seen.add(id(item))
            pending.extend(gc.get_referents(item))
    return False


def _containers(model: nn.Module) -> Iterator[Any]:
    seen: set[int] = set()
    pending: list[Any] = [module.__dict__ for module in model.modules()]
    while pending:
        item = pending.pop()
        if isinstance(item, _CONTAINERS) and id(item) not in seen:
            seen.add(id(item))
            yield item
            pending.extend(_values(item))


def _base(container: Any) -> Any:
    # A subclass may count, forbid or convert what is put into it: the type that holds the content does not.
    return next(kind for kind in _CONTAINERS if isinstance(container, kind))


def _content(container: Any) -> list[Any]:
    base = _base(container)
    return list(base.items(container)) if issubclass(base, dict) else list(base.__iter__(container))


def _values(container: Any) -> list[Any]:
    content = _content(container)
    return [value for _, value in content] if isinstance(container, dict) else content


def _restore(container: Any, content: list[Any]) -> None:
    base = _base(container)
    if _identities(container, _content(container)) == _identities(container, content):
        return
    base.clear(container)
    for item in content:
        if issubclass(base, dict):
            base.__setitem__(container, *item)
        else:
            (base.add if base is set else base.append)(container, item)


def _identities(container: Any, content: list[Any]) -> list[Any]:
    return [tuple(map(id, item)) for item in content] if isinstance(container, dict) else list(map(id, content))
