"""The source of functions of one's own, as hexadecimal digits that tell one version from another."""

import ast
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
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
    plain values, arrays and collections, the files of modules; of what is installed, its name; of others, their class.
    """
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # alive, so that no other takes its place
    if isinstance(thing, partial):
        yield from _sources_of((thing.func, *thing.args, *sorted(thing.keywords.items())), seen)
    elif isinstance(thing, ModuleType):
        yield from _module_source(thing)
    elif isinstance(thing, type | FunctionType | MethodType):
        if _is_installed(sys.modules.get(thing.__module__)):
            yield f"{thing.__module__}.{thing.__qualname__}".encode()
        else:
            yield from _code(thing)
            yield from _sources_of(_references(thing), seen)
    elif isinstance(thing, Mapping):
        yield from _sources_of((each for item in thing.items() for each in item), seen)
    elif isinstance(thing, list | tuple):
        yield str(len(thing)).encode()
        yield from _sources_of(thing, seen)
    elif isinstance(thing, (*_PLAIN, set, frozenset, torch.Tensor, np.ndarray)):
        yield from _contents(sorted(map(repr, thing)) if isinstance(thing, set | frozenset) else thing)
    else:
        yield from _sources(type(thing), seen)


_PLAIN = (int, float, complex, str, bytes, type(None))


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


def _code(thing: Any) -> Iterator[bytes]:
    """The source of a function or class, or what the compiler has made of it, where that was typed in."""
    try:
        yield inspect.getsource(thing).encode()
    except (OSError, TypeError):
        for function in _functions(thing):
            yield from _compiled(function.__code__)


def _compiled(code: CodeType) -> Iterator[bytes]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}".encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _compiled(constant)
        else:
            yield repr(constant).encode()


def _functions(thing: Any) -> list[FunctionType]:
    """A function, without what wraps it; of a class, its methods."""
    if isinstance(thing, type):
        return [value for value in vars(thing).values() if isinstance(value, FunctionType)]
    unwrapped = inspect.unwrap(thing)
    return [getattr(unwrapped, "__func__", unwrapped)]


def _references(thing: Any) -> Iterator[Any]:
    """What a function or class refers to: by names of its module, by what encloses it, and as base classes."""
    for function in _functions(thing):
        names = sorted(_names(function.__code__) & function.__globals__.keys())
        yield from (function.__globals__[name] for name in names)
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        for cell in function.__closure__ or ():
            with suppress(ValueError):  # of a variable that is not set yet
                yield cell.cell_contents
    if isinstance(thing, type):
        yield from thing.__bases__


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
