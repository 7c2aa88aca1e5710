"""The source of functions of one's own, as hexadecimal digits that tell one version from another."""

import ast
import hashlib
import inspect
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from PIL import Image

DIGITS = 16


class Returning:
    """A function of no arguments that returns a value, such as Datasets. The content of the value is its source."""

    def __init__(self, value: Any) -> None:
        self.value = value
        total = hashlib.sha256()
        for content in _contents(value):
            total.update(len(content).to_bytes(8, "big") + content)
        self.content = total.hexdigest()
        self.__qualname__ = f"datasets_{self.content[:8]}"

    def __call__(self) -> Any:
        return self.value


def digest(*parts: "Path | str | Callable[..., Any]") -> str:
    """Of files, texts and functions. Line ends do not count, as version control changes them."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            content = part.read_bytes().replace(b"\r\n", b"\n")
        elif isinstance(part, str):
            content = part.encode(errors="surrogateescape")
        elif isinstance(part, Returning):
            content = part.content.encode()
        else:
            content = "\0".join(_sources(part, set())).encode()
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()[:DIGITS]


def reachable(path: Path, folder: Path) -> list[Path]:
    """A file, and those in a folder that it imports, directly or by others: what its `import` statements name, wherever
    they stand. Of an installed package, the file alone."""
    if any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")):
        return [path]
    found, waiting = {path: None}, [path]
    while waiting:
        for imported in _imports(waiting.pop(), folder):
            if imported not in found:
                found[imported] = None
                waiting.append(imported)
    return [path, *sorted(set(found) - {path})]


def _imports(path: Path, folder: Path) -> Iterator[Path]:
    """The files in a folder that a file imports."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # importing it will say what is wrong
        return
    package = path.parent.relative_to(folder).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            base = (*base, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                yield from _files(folder, (*base, alias.name))


def _files(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Of a module, and of the packages that it is in."""
    for length in range(1, len(names) + 1):
        place = folder.joinpath(*names[:length])
        yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def _sources(thing: Any, seen: set[int]) -> Iterator[str]:
    """Of a function or class, and of the functions, classes and plain values of its module that it names."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, partial):
        yield repr((thing.args, sorted(thing.keywords.items())))
        thing = thing.func
    thing = inspect.unwrap(thing)
    try:
        yield inspect.getsource(thing)
    except (OSError, TypeError):  # of what was typed in, or of an object
        yield from _code_of(thing)
    for value in _named_values(thing):
        if isinstance(value, int | float | str | bool | tuple | type(None)):
            yield repr(value)
        else:
            yield from _sources(value, seen)


def _code_of(thing: Any) -> Iterator[str]:
    codes = [function.__code__ for function in _functions(thing)]
    if not codes:
        yield repr(type(thing))
    for code in codes:
        yield from _described(code)


def _described(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _described(constant)
        else:
            yield repr(constant)


def _functions(thing: Any) -> list[FunctionType]:
    """A function; of a class, its methods."""
    if isinstance(thing, type):
        return [value for value in vars(thing).values() if isinstance(value, FunctionType)]
    return [thing] if isinstance(thing, FunctionType) else []


def _named_values(thing: Any) -> Iterator[Any]:
    """What it refers to: by the names of its module, if that was defined there or is a plain value; what it has
    enclosed; and base classes."""
    module = getattr(thing, "__module__", None)
    for function in _functions(thing):
        for name in sorted(_names(function.__code__)):
            value = function.__globals__.get(name)
            plain = name in function.__globals__ and isinstance(value, int | float | str | bool | tuple | type(None))
            if plain or (callable(value) and getattr(value, "__module__", None) == module):
                yield value
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # of a variable that is not set yet
                continue
            if not isinstance(value, type) or value.__module__ == module:
                yield value
    if isinstance(thing, type):
        yield from (base for base in thing.__bases__ if base.__module__ == module)


def _names(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _contents(value: Any) -> Iterator[bytes]:
    """Of tensors, arrays, images, plain values, and collections and Datasets of them."""
    if isinstance(value, torch.Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, Image.Image):
        yield f"{value.mode} {value.size}".encode()
        yield value.tobytes()
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield repr(key).encode()
            yield from _contents(each)
    elif hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, str | bytes):
        yield f"{type(value).__name__} {len(value)}".encode()
        for number in range(len(value)):
            yield from _contents(value[number])
    else:
        yield repr(value).encode(errors="surrogateescape")
