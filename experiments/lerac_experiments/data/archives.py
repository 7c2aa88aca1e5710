"""Archives of data sets, zip or tar: read in place, or unpacked as a whole or not at all. They are not trusted."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from lerac_experiments.data.reading import ZIP_DAMAGE, check_method, require_file
from lerac_experiments.data.stored import Stored
from lerac_experiments.data.tars import Tar
from lerac_experiments.errors import ExperimentError

_DAMAGE = (*ZIP_DAMAGE, tarfile.TarError, LZMAError)


def read_archive(archive: Path, top: str, limit: int) -> Stored:
    """The files under the folder `top` of an archive, without unpacking it to the disk.

    Args:
        limit: of the bytes that all members hold.

    Raises:
        ExperimentError: the archive is missing, damaged, larger, unsafe, or has no such files. The message names it.
    """
    contents = {}
    with _named(archive):
        for name, member in _files(archive, top, limit):
            with member.open() as source:
                # One more, for the end is where a zip's checksum is looked at.
                contents[str(name)] = source.read(member.size + 1)
    return Stored(archive / top, contents)


def unpack(archives: Sequence[Path], top: str, into: Path, limit: int, name: str | None = None) -> Path:
    """Unpacks the folder `top` of archives, which complement each other, and returns where it is: `into`/`top`, or
    `into`/`name`, if that is given. An empty `top` is all of them.

    It appears there complete: it is unpacked beside it under another name, which is removed if that fails.

    Args:
        limit: of the bytes that all members of an archive hold.

    Raises:
        ExperimentError: an archive is missing, damaged, larger, unsafe, or has no such files. The message names it.
    """
    target = into / (name or top)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
            whole = Path(temporary) / target.name
            for archive in archives:
                _write(archive, top, whole, limit)
            _rename(whole, target)
    except OSError as error:
        raise ExperimentError(f"cannot unpack {', '.join(map(str, archives))} into {target}: {error}") from error
    return target


def _rename(whole: Path, target: Path) -> None:
    try:
        whole.rename(target)
    except OSError:
        # Another process may have been faster.
        if not target.is_dir():
            raise


def _write(archive: Path, top: str, folder: Path, limit: int) -> None:
    with _named(archive):
        for name, member in _files(archive, top, limit):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with member.open() as source, file.open("wb") as destination:
                shutil.copyfileobj(source, destination)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_folder: bool
    is_file: bool
    open: Callable[[], IO[bytes]]


def _files(archive: Path, top: str, limit: int) -> Iterator[tuple[PurePosixPath, _Member]]:
    """The files under the folder `top`, by their names there. Raises ExperimentError if there are none."""
    found = False
    for member in _members(archive, limit):
        path = PurePosixPath(member.name)
        if not member.is_folder and path.is_relative_to(top):
            found = True
            yield path.relative_to(top), member
    if not found:
        raise ExperimentError(f"{archive} holds no files" + (f" in a folder {top}" if top else ""))


def _members(archive: Path, limit: int) -> Iterator[_Member]:
    """The files and folders of an archive, each once it has been found to be harmless."""
    total, names = 0, set()
    for member in _zip_members(archive) if archive.suffix == ".zip" else _tar_members(archive):
        # Such a path takes both kinds of slashes, and knows the names of drives.
        path = PureWindowsPath(member.name)
        if path.anchor or ".." in path.parts:
            raise ExperimentError(
                f"{archive} is refused: {member.name!r} would lie outside the folder it is unpacked to"
            )
        if not (member.is_file or member.is_folder):
            raise ExperimentError(f"{archive} is refused: {member.name!r} is a link or a device")
        if member.is_file and path in names:
            raise ExperimentError(f"{archive} is refused: it holds {member.name!r} twice")
        names.add(path)
        total += member.size
        if total > limit:
            raise ExperimentError(f"{archive} is refused: it unpacks to more than {limit:,} bytes")
        yield member


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(require_file(archive)) as file:
        for info in file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if the archive was not made on Unix
            folder = info.is_dir()
            plain = kind in (0, stat.S_IFREG)
            check_method(info, archive / info.filename)
            yield _Member(info.filename, info.file_size, folder, plain, partial(file.open, info))


def _tar_members(archive: Path) -> Iterator[_Member]:
    with require_file(archive).open("rb") as stream, Tar.open(fileobj=stream) as file:
        while (info := file.next()) is not None:
            yield _Member(info.name, info.size, info.isdir(), info.isfile(), partial(_open_in_tar, file, info))


def _open_in_tar(file: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = file.extractfile(info)
    assert opened is not None, "only files are opened"
    return opened


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split())  # tarfile says in several lines what it has tried
        raise ExperimentError(f"cannot read {archive}: {reason}") from error
