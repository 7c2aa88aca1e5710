"""Files that are written whole or not at all, and read if they are files."""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from lerac_experiments.errors import ExperimentError


class Damaged(ExperimentError):
    """A file does not hold what it should."""


@contextmanager
def replacing(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place at the end.

    Whoever reads `path` finds the old file or the new one. After an error nothing has changed.

    Args:
        keep: what the old file becomes. One who is killed in between leaves it there, and none at `path`.

    Raises:
        OSError: the file cannot be written. It names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())  # so that the file survives the machine, too
        if keep is not None and path.exists():
            path.replace(keep)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        # What fails in writing does not know the name, and what fails in opening knows the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_over(path: Path) -> None:
    """Removes what a process that was killed in `replacing(path)` has left. No other may be writing to it."""
    for left_over in path.parent.glob(f".{path.name}.*"):
        left_over.unlink(missing_ok=True)


def require_regular(path: Path) -> None:
    """Checks that opening it neither waits, as a pipe does for its other end, nor does anything else.

    Raises:
        FileNotFoundError: there is nothing.
        Damaged: it is something else.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise Damaged(f"{path} is no regular file")


def read_json(path: Path) -> Any:
    """What JSON is in a file. Numbers are finite.

    Raises:
        FileNotFoundError: there is none.
        Damaged: it holds no JSON.
    """
    require_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise Damaged(f"{path} is damaged: brackets within brackets without end") from None
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Writes `record` as JSON, whole or not at all. JSON has no infinity, and nothing that is not a number: null."""
    content = json.dumps(finite(record), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        # A file name that is not UTF-8 has surrogates, which JSON writes so.
        temporary.write_bytes(content.encode("utf-8", errors="backslashreplace"))


def finite(value: Any) -> Any:
    """The value, with None in place of numbers that are infinite or not a number."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _sync_folder(folder: Path) -> None:
    """So that the name survives the machine; not all systems can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
