"""Files of the disk and of zip archives, read whole: never more of them than is asked for, whatever they claim."""

import codecs
import stat
import zipfile
import zlib
from pathlib import Path

from lerac_experiments.errors import ExperimentError

FILE_LIMIT = 1_000_000_000
"""Bytes of one file that is read whole, if nothing else is said: more than any image, recording or table holds."""

# zipfile raises RuntimeError for passwords, and ValueError for names that are no text.
ZIP_DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)

# The others are expanded without a limit, whatever the size that the archive states.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_POINTER = b"version https://git-lfs.github.com/spec/"


def read_file(path: Path, limit: int = FILE_LIMIT) -> bytes:
    """What a file on the disk holds.

    Raises:
        ExperimentError: it is missing, larger, no file (a pipe or a device, say), or a pointer of Git LFS. The message
            names it.
    """
    try:
        _check_size(path, _size(path), limit)
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: of a name with a NUL
        raise ExperimentError(f"cannot read {path}: {error}") from error
    return refuse_pointer(content, path)


def require_file(path: Path) -> Path:
    """`path`. Raises OSError if it is missing, or no file; ExperimentError if it is a pointer of Git LFS."""
    _size(path)
    with path.open("rb") as file:
        refuse_pointer(file.read(len(_POINTER)), path)
    return path


def _size(path: Path) -> int:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # a pipe, which would be waited for, or a device, which never ends
        raise OSError("it is no file")
    return found.st_size


def read_zipped(archive: zipfile.ZipFile, name: str, path: Path, limit: int = FILE_LIMIT) -> bytes:
    """What a file in a zip archive holds; nothing is allocated for more than the archive states, and that is checked.

    Args:
        path: for messages.

    Raises:
        ExperimentError: as for `read_file`; or it is damaged, or compressed in an unusual way.
    """
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise ExperimentError(f"cannot read {path}: it is not in the archive") from None
    _check_size(path, info.file_size, limit)
    check_method(info, path)
    try:
        with archive.open(info) as file:
            content = file.read(info.file_size + 1)  # the end is where the checksum is looked at
    except ZIP_DAMAGE as error:
        raise ExperimentError(f"cannot read {path}: {error}") from error
    return refuse_pointer(content, path)


def check_method(info: zipfile.ZipInfo, path: Path) -> None:
    """Raises ExperimentError naming `path` if a file in a zip archive is compressed in an unusual way."""
    if info.compress_type not in _METHODS:
        raise ExperimentError(f"cannot read {path}: it is compressed by the method {info.compress_type}, not deflated")


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise ExperimentError(f"{path} is refused: it holds {size:,} bytes, and at most {limit:,} are expected")


def refuse_pointer(content: bytes, path: Path) -> bytes:
    """`content`, unless it is what Git LFS puts in the place of a file until that is fetched: an ExperimentError."""
    if content.startswith(_POINTER):
        raise ExperimentError(
            f"{path} is a pointer of Git LFS, and not yet the file itself: run `git lfs pull` in its repository"
        )
    return content


def as_text(content: bytes, path: Path, otherwise: str | None = None) -> str:
    """Text in UTF-8, without the mark (BOM) that some programs begin it with.

    Args:
        path: for messages.
        otherwise: the encoding of what is no UTF-8, where the format of the file has one.

    Raises:
        ExperimentError: it is neither. The message names the file.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if otherwise is not None and not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return content.decode(otherwise)
        raise ExperimentError(f"{path} is damaged, or no text in UTF-8 ({error}): save it in UTF-8") from error
