"""The source of functions of one's own, as hexadecimal digits that tell one version from another."""

import ast
import hashlib
import inspect
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torch
from PIL import Image

from lerac_experiments.errors import ExperimentError

DIGITS = 16


class Returning:
    """A function of no arguments that returns a value, such as Datasets. The content of the value is its source."""

    def __init__(self, value: Any) -> None:
        self.value = value
        total = hashlib.sha256()
        for content in _contents(value):
            total.update(len(content).to_bytes(8, "big") + content)
        self.content = total.hexdigest()
        self.__qualname__ = "datasets"

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
            content = b"\0".join(_sources(part, {}))
        total.update(len(content).to_bytes(8, "big") + content)
    return total.hexdigest()[:DIGITS]


def reachable(path: Path, folder: Path) -> list[Path]:
    """A file, and those in a folder that it imports, directly or by others: what its `import` statements name, wherever
    they stand. Of an installed package, the file alone."""
    if _lies_installed(path):
        return [path]
    found, waiting = {path: None}, [path]
    while waiting:
        for imported in _imports(waiting.pop(), folder):
            if imported not in found:
                found[imported] = None
                waiting.append(imported)
    return [path, *sorted(set(found) - {path})]


def _lies_installed(path: Path) -> bool:
    return any(path.is_relative_to(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib"))


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


def _sources(thing: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """Of something that is referred to: the code of functions and classes and of what these refer to, the content of
    plain values, arrays and collections, the files of modules; of what is installed, its name; of other objects, their
    class and their state.

    Raises:
        ExperimentError: the state of an object cannot be read.
    """
    if id(thing) in seen:
        yield f"again {list(seen).index(id(thing))}".encode()
        return
    seen[id(thing)] = thing  # alive, so that no other takes its place
    if isinstance(thing, partial):
        yield from _sources_of((thing.func, *thing.args, *sorted(thing.keywords.items())), seen)
    elif isinstance(thing, ModuleType):
        yield from _module_source(thing)
    elif isinstance(thing, type | FunctionType):
        if all(_is_installed(sys.modules.get(name)) for name in _modules(thing)):
            yield f"{thing.__module__}.{thing.__qualname__}".encode()
        else:
            yield from _code(thing)
            yield from _sources_of(_references(thing), seen)
    elif isinstance(thing, MethodType):
        yield from _sources_of((thing.__func__, thing.__self__), seen)
    elif isinstance(thing, Mapping):
        yield str(len(thing)).encode()
        yield from _sources_of((each for item in thing.items() for each in item), seen)
    elif isinstance(thing, list | tuple):
        yield str(len(thing)).encode()
        yield from _sources_of(thing, seen)
    elif isinstance(thing, set | frozenset):
        yield from sorted(b"\0".join(_sources(each, {})) for each in thing)
    elif isinstance(thing, (*_PLAIN, torch.Tensor, np.ndarray)):
        yield from _contents(thing)
    else:
        yield from _sources_of((type(thing), *_state(thing)), seen)


def _modules(thing: type | FunctionType) -> Iterator[str]:
    """Where it says that it is from, and where a function was written: one that wraps another says what that says."""
    yield thing.__module__
    if isinstance(thing, FunctionType):
        yield thing.__globals__.get("__name__", "__main__")


def _state(thing: Any) -> Iterator[Any]:
    """What an object holds, as pickle finds it; what pickle knows by a name alone, by what it wraps or by that name."""
    if hasattr(thing, "__wrapped__"):
        yield thing.__wrapped__
        return
    if isinstance(thing, BuiltinFunctionType):
        yield thing.__qualname__
        if not isinstance(thing.__self__, type | ModuleType | NoneType):
            yield thing.__self__
        return
    try:
        reduced = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise ExperimentError(
            f"a function that was given refers to {thing!r:.60}, of which it cannot be told whether it is another one "
            f"next time ({type(error).__name__}: {error}): make it within the function, or put the function into a "
            "file and give FILE.py:FUNCTION"
        ) from error
    for part in (reduced,) if isinstance(reduced, str) else reduced:
        yield list(part) if isinstance(part, Iterator) else part


_PLAIN = (int, float, complex, str, bytes, NoneType)


def _sources_of(things: Iterable[Any], seen: dict[int, Any]) -> Iterator[bytes]:
    for thing in things:
        # Small numbers and texts are the same object wherever they occur.
        yield from _contents(thing) if isinstance(thing, _PLAIN) else _sources(thing, seen)


def _module_source(module: ModuleType) -> Iterator[bytes]:
    """The files of a module that is not installed, and of what it imports from beside it; of others, their names."""
    yield module.__name__.encode()
    file = getattr(module, "__file__", None)
    if file is not None and not _is_installed(module):
        path = Path(file)
        depth = module.__name__.count(".") + (path.name == "__init__.py")
        for each in reachable(path, path.parents[depth]):
            yield each.read_bytes()


_LIBRARIES = ("torch", "torchvision", "timm", "transformers", "numpy", "lerac_fast", "lerac_experiments")
"""Which are installed, wherever they lie."""


def _is_installed(module: ModuleType | None) -> bool:
    """Whether a module is a library's, and not of the one who calls."""
    if module is None or module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None)
    return file is None or module.__name__.partition(".")[0] in _LIBRARIES or _lies_installed(Path(file))


def _code(thing: type | FunctionType) -> Iterator[bytes]:
    """The source of a function or class, or what the compiler has made of it, where that was typed in."""
    code = thing if isinstance(thing, type) else thing.__code__  # not the code of what a function wraps
    if isinstance(code, CodeType) and code.co_name == "<lambda>":  # its source is all of the line
        yield from _compiled(code)
        return
    try:
        yield inspect.getsource(code).encode()
    except (OSError, TypeError):
        if isinstance(code, CodeType):
            yield from _compiled(code)
        else:
            yield code.__qualname__.encode()


def _compiled(code: CodeType) -> Iterator[bytes]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}".encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _compiled(constant)
        else:
            yield repr(constant).encode()


def _references(thing: type | FunctionType) -> Iterator[Any]:
    """What a function refers to: by names of its module, by what encloses it, by defaults and attributes; a class: its
    bases and what is defined in it."""
    if isinstance(thing, type):
        yield from thing.__bases__
        for name in sorted(vars(thing)):
            if defined := _defined(name, vars(thing)[name]):
                yield from (name, *defined)
        return
    for name in sorted(_names(thing.__code__) & thing.__globals__.keys()):
        yield thing.__globals__[name]
    yield from (thing.__defaults__, thing.__kwdefaults__, vars(thing))
    for cell in thing.__closure__ or ():
        with suppress(ValueError):  # of a variable that is not set yet
            yield cell.cell_contents


def _defined(name: str, value: Any) -> tuple[Any, ...]:
    """What a class has by a name, without what makes it an attribute. Nothing of what Python itself keeps there."""
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if isinstance(value, cached_property):
        return (value.func,)
    if isinstance(value, staticmethod | classmethod):
        return (value.__func__,)
    kept_by_python = name == "_abc_impl" or (name.startswith("__") and name.endswith("__") and not callable(value))
    if kept_by_python or inspect.isgetsetdescriptor(value) or inspect.ismemberdescriptor(value):
        return ()
    return (value,)


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
