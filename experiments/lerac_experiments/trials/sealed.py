"""Tensors and plain values in files with a checksum at the end, which tells when they are damaged.

torch.load reads them as it reads others: it does not look at what comes after the archive.
"""

import errno
import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch

from lerac_experiments.files import Damaged, replacing, require_regular

_MARK = b"\nsha256 of what is above: "
_SEAL = len(_MARK) + 2 * hashlib.sha256().digest_size
_CHUNK = 1 << 20


class Loaded(NamedTuple):
    """What was in a file."""

    state: Any
    sealed: bool
    """Whether there was a checksum, which was right."""


class _Summing(io.BufferedWriter):
    """A new file, which sums up what is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self._sum = hashlib.sha256()

    def write(self, content: Any) -> int:
        self._sum.update(content)
        return super().write(content)

    @property
    def seal(self) -> bytes:
        return _MARK + self._sum.hexdigest().encode()


def save(state: Any, path: Path, keep: Path | None = None) -> None:
    """Writes tensors and plain values, whole or not at all.

    Args:
        keep: what the file that was there before becomes; None, it is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path, keep) as temporary, _Summing(temporary) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # After a write that failed or was interrupted torch complains of its consequences ("unexpected pos").
            if error.__context__ is not None and not isinstance(error.__context__, RuntimeError):
                raise error.__context__ from None
            raise
        file.write(file.seal)


def load(path: Path) -> Loaded:
    """What `save` wrote, on the CPU; nothing in it is run.

    Raises:
        FileNotFoundError: there is nothing.
        Damaged: it is not what was written.
    """
    require_regular(path)
    with path.open("rb") as file:
        sealed = _check_seal(file, path)
        try:
            return Loaded(torch.load(file, map_location="cpu", weights_only=True), sealed)
        except MemoryError:
            raise
        except Exception as error:  # torch promises none in particular, and explains how to run what is in the file
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # seeking to where a damaged archive points
                raise
            raise Damaged(f"{path} is damaged: torch cannot read it ({type(error).__name__})") from error


def _check_seal(file: BinaryIO, path: Path) -> bool:
    """Whether there is a seal; raises Damaged if it is of another content. Leaves the file at its start."""
    length = file.seek(0, io.SEEK_END) - _SEAL
    file.seek(max(0, length))
    seal = file.read()
    file.seek(0)
    if not seal.startswith(_MARK):
        return False
    checksum, left = hashlib.sha256(), length
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        checksum.update(chunk)
        left -= len(chunk)
    if seal != _MARK + checksum.hexdigest().encode():
        raise Damaged(f"{path} is damaged: it is not what its checksum was made of")
    file.seek(0)
    return True
