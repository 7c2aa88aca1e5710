"""Tar archives whose headers are bounded: long names, long links, PAX headers and maps of sparse files, which tarfile
reads whole, whatever size they claim, and of which it keeps what it has read."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

_HEADER_LIMIT = 1 << 18
"""Bytes from the end of a file to the content of the next: a header, and what belongs to it."""
_HEADERS_LIMIT = 1 << 28
"""Bytes of all headers: half a million files with usual ones. Compressed, a header takes a few bytes."""


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            # tarfile takes any header that it cannot read for the end, which is one of zeros.
            if buf == bytes(tarfile.BLOCKSIZE):
                raise
            raise tarfile.ReadError(f"a header in it is damaged, or it is cut off ({error})") from error
        if header.size < 0:
            raise tarfile.ReadError(f"a header in it claims {header.size} bytes")
        return header


class _Stream:
    """A file of which no more is read, while headers are, than headers may take."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left: int | None = None  # of the bytes that may be read; None, any number
        self._headers = 0

    @contextmanager
    def reading_headers(self) -> Iterator[None]:
        self._left = min(_HEADER_LIMIT, _HEADERS_LIMIT - self._headers)
        try:
            yield
        finally:
            self._left = None

    def read(self, size: int) -> bytes:
        if self._left is not None:
            if size > self._left:
                raise tarfile.ReadError(
                    f"its headers are too large: more than {_HEADER_LIMIT:,} bytes for a file, or {_HEADERS_LIMIT:,} "
                    "for all"
                )
            self._left -= size
            self._headers += size
        return self._file.read(size)

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


class Tar(tarfile.TarFile):
    """A tar archive, plain or gzipped, to be read from its start to its end with `next`. Headers that are too large are
    a tarfile.ReadError."""

    OPEN_METH = {"tar": "taropen", "gz": "gzopen"}  # noqa: RUF012 (tarfile's own; the others allocate what is claimed)

    def __init__(self, name: Any, mode: Any, fileobj: IO[bytes], **options: Any) -> None:
        self._stream = _Stream(fileobj)
        super().__init__(name, mode, cast(IO[bytes], self._stream), **{**options, "tarinfo": _Header})

    def next(self) -> tarfile.TarInfo | None:
        with self._stream.reading_headers():
            info = super().next()
        self.members: list[tarfile.TarInfo] = []  # what it keeps of all
        return info
