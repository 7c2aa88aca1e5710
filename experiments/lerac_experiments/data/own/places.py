"""Where one's own data lies: files, folders, and archives of folders."""

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from lerac_experiments.data.archives import unpack
from lerac_experiments.data.media import Listing, is_hidden, list_folder
from lerac_experiments.data.source import cache_folder, data_folder
from lerac_experiments.errors import ExperimentError, Unavailable

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_UNPACKED_LIMIT = 50_000_000_000
"""Bytes that an archive of one's own may unpack to."""

_WHOLE = 1 << 16
"""Bytes up to which all of an image or a recording counts for the fingerprint; of a larger one, half as many from its
start and from its end, and its size."""


def find_place(name: str) -> Path:
    """A file or folder by its path; a relative one is looked for from the current folder, then from the data folder.

    Raises:
        Unavailable: there is none.
    """
    try:
        path = Path(name).expanduser()
        tried = [path] if path.is_absolute() else [Path.cwd() / path, data_folder() / path]
        found = next((place for place in tried if place.exists()), None)
    except (RuntimeError, ValueError, OSError) as error:  # no home, a NUL, or too long a name
        raise Unavailable(f"{name!r} is no path: {error}") from error
    if found is None:
        raise Unavailable(f"there is no {' nor '.join(map(str, tried))}")
    return found


def find_folder(name: str) -> Path:
    """A folder by its path; of an archive, the folder that it is unpacked to once, among the downloads.

    Raises:
        Unavailable: there is neither.
        ExperimentError: it is another file; or the archive is damaged, or not safe (see `unpack`).
    """
    place = find_place(name)
    if place.is_dir():
        return place
    if not place.name.lower().endswith(_ARCHIVES):
        raise ExperimentError(f"{place} is neither a folder nor an archive ({', '.join(_ARCHIVES)})")
    content = digest([("", place)], whole=lambda _: True)
    into, name = cache_folder() / "unpacked", f"{place.name}-{content}"
    folder = into / name if (into / name).is_dir() else unpack([place], "", into, _UNPACKED_LIMIT, name)
    return _first_of_many(folder)


def _first_of_many(folder: Path) -> Path:
    """A folder, or the one in it that is all it holds, and so on: archives are often of the folder itself."""
    within = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
    return _first_of_many(within[0]) if len(within) == 1 and within[0].is_dir() else folder


def list_place(folder: Path, follow_links: bool) -> Listing:
    """The files in a folder; those that links lead to outside of it, only if these are followed."""
    return list_folder(folder, "all" if follow_links else "inside")


def digest(files: Iterable[tuple[str, Path]], whole: Callable[[str], bool] = lambda _: False) -> str:
    """Hexadecimal digits that the names, the sizes and the content of files decide. It is taken again in no time as
    long as sizes and times of change are the same.

    Args:
        files: their names, as they count, and their paths.
        whole: whether all of a file counts, by its name: lists and tables. Of others see `_WHOLE`.

    Raises:
        ExperimentError: a file cannot be read. The message names it.
    """
    try:
        stats = [(name, path, path.stat()) for name, path in sorted(files)]
        return _digest_of(
            tuple((name, path, stat.st_size, stat.st_mtime_ns, whole(name)) for name, path, stat in stats)
        )
    except OSError as error:
        raise ExperimentError(f"cannot read {error.filename}: {error.strerror}") from error


@lru_cache(maxsize=8)
def _digest_of(files: tuple[tuple[str, Path, int, int, bool], ...]) -> str:
    """Of names, paths, sizes, times of change, and whether all of the file counts."""
    digest = hashlib.sha256()
    for name, path, size, _, whole in files:
        digest.update(f"{len(name)} {name} {size}\n".encode(errors="surrogateescape"))
        with path.open("rb") as file:
            if whole or size <= _WHOLE:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            else:
                digest.update(file.read(_WHOLE // 2))
                file.seek(-_WHOLE // 2, 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]
