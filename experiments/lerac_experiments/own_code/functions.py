"""Functions of one's own: found by FILE.py:FUNCTION or package.module:FUNCTION, called with what they ask for, and told
apart by their source."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.own_code.source import digest, reachable

_GIVEN: dict[str, Callable[..., Any]] = {}
"""Functions that a program has given, by their names: those of no file that another process could import."""

GIVEN_PREFIX = "python:"


@dataclass(frozen=True)
class OwnFunction:
    """A function, by the text that stands for it.

    Its module is imported when it is called; a package around the module, before.

    Attributes:
        spec: FILE.py:FUNCTION, package.module:FUNCTION, or python:NAME of what a program has given.
    """

    spec: str
    place: str
    """A file, or a module by its dotted name; empty for what a program has given."""
    name: str

    @classmethod
    def parse(cls, spec: str) -> "OwnFunction | None":
        """The function that a text stands for; None, if it is of neither form."""
        if spec.startswith(GIVEN_PREFIX):
            return cls(spec, "", spec.removeprefix(GIVEN_PREFIX))
        place, colon, name = spec.rpartition(":")
        dotted = all(part.isidentifier() for part in place.split("."))
        if not colon or not name.isidentifier() or not (place.endswith(".py") or dotted):
            return None
        return cls(spec, place, name)

    @property
    def of_file(self) -> bool:
        return self.place.endswith(".py")

    @property
    def path(self) -> Path:
        """Of the file, or of the module's.

        Raises:
            Unavailable: there is no such file.
            ExperimentError: there is no such module.
        """
        if self.of_file:
            path = Path(self.place).expanduser().resolve()
            if not path.is_file():
                raise Unavailable(f"{self.spec}: there is no file {path}")
            return path
        try:
            with importable(Path.cwd()):
                found = importlib.util.find_spec(self.place)
        except (ImportError, ValueError) as error:
            raise ExperimentError(f"{self.spec}: {self.place} cannot be imported: {error}") from error
        if found is None or found.origin is None or not found.origin.endswith(".py"):
            raise ExperimentError(f"{self.spec}: there is no module {self.place}, in {Path.cwd()} or installed")
        return Path(found.origin)

    @property
    def _folder(self) -> Path:
        """From where the module imports what lies beside it: of a package, the one that holds the package."""
        folder = self.path.parent
        if self.of_file:
            return folder
        package = self.path.name == "__init__.py"
        return folder.parents[self.place.count(".") - 1 + package] if self.place.count(".") + package else folder

    def fingerprint(self) -> str:
        """Hexadecimal digits of the source: of the file, and of what it imports from beside it.

        Raises:
            ExperimentError: there is no source.
        """
        if not self.place:
            return digest(self._given())
        return digest(*self.files())

    def files(self) -> list[Path]:
        """That the source is in: first that of the function. Of what a program has given, none."""
        return reachable(self.path, self._folder) if self.place else []

    def load(self) -> Callable[..., Any]:
        """The function. A file that was edited since is imported anew.

        Raises:
            ExperimentError: it cannot be imported, has no such name, or that is no function. The place is named.
        """
        if not self.place:
            return self._given()
        module = self._import_file() if self.of_file else self._import_module()
        found = getattr(module, self.name, None)
        if found is None:
            functions = [name for name, value in vars(module).items() if _is_own(value, module)]
            raise ExperimentError(
                f"{self.spec}: {self.place} has no {self.name}: it has {', '.join(functions) or 'no functions'}"
            )
        if not callable(found):
            raise ExperimentError(f"{self.spec}: {self.name} is no function but {type(found).__name__} {found!r:.40}")
        function: Callable[..., Any] = found
        return function

    def call(self, offered: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """What the function returns.

        Args:
            offered: arguments, of which it gets those that it has parameters for.
            options: those that the user gives, in the place of the ones offered.

        Raises:
            ExperimentError: it asks for others, or raises something; the message says where.
        """
        function = self.load()
        arguments = arguments_for(function, offered, options, self.spec)
        with self._told():
            return function(**arguments)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What is raised becomes an ExperimentError that names the place."""
        if self.of_file:
            _make_way(self.files())
        try:
            with importable(self._folder if self.place else Path.cwd()):
                yield
        except ExperimentError:
            raise
        except Exception as error:
            raise ExperimentError(f"{self.spec}: {told(error, self.files())}") from error

    def _given(self) -> Callable[..., Any]:
        if self.name not in _GIVEN:
            raise ExperimentError(
                f"{self.spec} is a function that a program has given to compare(): it is known to that program only. "
                "Call compare() there, or put the function into a file and give FILE.py:FUNCTION"
            )
        return _GIVEN[self.name]

    def _import_module(self) -> ModuleType:
        fingerprint = self.fingerprint()
        with self._told():
            module = importlib.import_module(self.place)
        if _imported.setdefault(self.place, fingerprint) != fingerprint:
            raise ExperimentError(f"{self.spec}: its source was edited after it was imported: start Python anew")
        return module

    def _import_file(self) -> ModuleType:
        path, fingerprint = self.path, self.fingerprint()
        name = f"_own_{digest(str(path))[:8]}_{path.stem}"
        if name in sys.modules and _imported.get(name) == fingerprint:
            return sys.modules[name]
        _forget(reachable(path, path.parent))
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None
        assert found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module  # so that what it defines can be pickled
        try:
            with self._told():
                found.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        _imported[name] = fingerprint
        return module


_imported: dict[str, str] = {}
"""The fingerprints of the sources that modules were imported from, by their names."""


def given(function: Callable[..., Any]) -> str:
    """The text that stands for a function from now on, in this process; and in others, if they can import it."""
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", "function")
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is function:
        return f"{module}:{name}"
    short = name.rpartition(".")[2]
    short = short if short.isidentifier() else "function"  # a lambda
    known = f"{short}_{digest(function)[:8]}"  # others of that name stand for themselves
    _GIVEN[known] = function
    return f"{GIVEN_PREFIX}{known}"


def arguments_for(
    function: Callable[..., Any], offered: Mapping[str, Any], options: Mapping[str, Any], spec: str
) -> dict[str, Any]:
    """Those of the offered arguments that a function has parameters for, and the user's own.

    Raises:
        ExperimentError: it has a parameter for which there is neither, or none for one of the user's own.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of functions written in C
        return dict(options)
    named = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    if unknown := [] if takes_any else [name for name in options if name not in named]:
        raise ExperimentError(f"{spec} has no parameter {unknown[0]!r}: it has {', '.join(sorted(named)) or 'none'}")
    arguments = {name: value for name, value in offered.items() if name in named} | dict(options)
    for each in parameters:
        variadic = each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        if not variadic and each.default is each.empty and each.name not in arguments:
            raise ExperimentError(
                f"{spec}: its parameter {each.name!r} is none of {', '.join(offered)}: give it a default, or a value "
                f"as {spec},{each.name}=VALUE"
            )
    return arguments


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """What lies in a folder can be imported, as when a program there is started."""
    entry = str(folder)
    added = entry not in sys.path
    if added:
        sys.path.insert(0, entry)
    try:
        yield
    finally:
        if added and entry in sys.path:
            sys.path.remove(entry)


def told(error: BaseException, files: list[Path]) -> str:
    """An error in one line, with its last place in these files, or else its last place."""
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    frames = [frame for each in chain for frame in traceback.extract_tb(each.__traceback__)]
    places = [frame for frame in frames if Path(frame.filename) in files] or frames
    return f"{said} ({places[-1].filename}, line {places[-1].lineno}: {places[-1].line})" if places else said


_COMMA = re.compile(r",(?![^(\[]*[)\]])")
"""Not within brackets."""


def options_of(spec: str) -> tuple[str, dict[str, Any]]:
    """Parts SPEC,name=value,... into what stands before the first comma after the colon, and the values by their names.
    A name alone is true."""
    start = spec.find(".py:") + 4 if ".py:" in spec else spec.find(":") + 1
    name, *given_options = _COMMA.split(spec[start:])
    options = {}
    for each in given_options:
        key, equals, text = each.partition("=")
        if not key.isidentifier():
            raise ExperimentError(f"{spec}: {each!r} is no option: write name=value after a comma")
        options[key] = _value(text) if equals else True
    return spec[:start] + name, options


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _make_way(files: list[Path]) -> None:
    """Lets what lies beside a file be imported where a module of another folder has its name."""
    folder = files[0].parent
    for top in {path.relative_to(folder).parts[0].removesuffix(".py") for path in files[1:]}:
        own = (folder / f"{top}.py", folder / top)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            elsewhere = file is not None and not any(Path(file).is_relative_to(place) for place in own)
            if name.partition(".")[0] == top and elsewhere and top not in sys.stdlib_module_names:
                del sys.modules[name]


def _forget(paths: list[Path]) -> None:
    """Lets modules be imported anew that were imported from these files."""
    files = {str(path) for path in paths}
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in files and name != "__main__":
            del sys.modules[name]
    for file in files:
        with suppress(OSError):  # in a folder that is not to be written to
            # Python takes what it has compiled of a file for the file's if its second and its size are the same.
            Path(importlib.util.cache_from_source(file)).unlink()


def _is_own(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", None) == module.__name__
