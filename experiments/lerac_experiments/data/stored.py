"""Files of a data set in a folder, or in a zip archive that is read in place, one by one: also of large data sets."""

import os
import zipfile
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

from lerac_experiments.data.download import download, find
from lerac_experiments.data.media import Listing, list_folder
from lerac_experiments.data.reading import (
    FILE_LIMIT,
    ZIP_DAMAGE,
    as_text,
    read_file,
    read_zipped,
    refuse_pointer,
    require_file,
)
from lerac_experiments.data.source import cache_folder
from lerac_experiments.errors import ExperimentError, Unavailable


class Stored:
    """The files under a folder, of a zip archive, or of an archive that was read into memory.

    Args:
        place: the folder or archive; in memory, where the files would lie if its path were that of a folder.
        contents: in memory, by their names in `place`; None, they are on the disk.

    Raises:
        ExperimentError: the archive cannot be read, or a name is in it twice.
    """

    def __init__(self, place: Path, contents: dict[str, bytes] | None = None) -> None:
        self.place, self.contents = place, contents
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self._is_zip = contents is None and not place.is_dir()
        if self._is_zip:
            self._refuse_twice()

    @cached_property
    def listing(self) -> Listing:
        """The files. Raises ExperimentError naming the folder if it cannot be read."""
        return Listing.of(self._archive().namelist()) if self._is_zip else list_folder(self.place)

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, in a folder or in memory."""
        return (self.place / name).is_file() if self.contents is None else name in self.contents

    def find(self, name: str) -> str | None:
        """The name of the file that is called so, in whatever folder; None, there is none.

        Raises:
            ExperimentError: there are several.
        """
        found = [other for other in self.listing.names if other == name or other.endswith(f"/{name}")]
        if len(found) > 1:
            raise ExperimentError(f"{self.place} holds {len(found)} files called {name}: {', '.join(found[:3])}")
        return found[0] if found else None

    def require(self, name: str, data: str) -> str:
        """As `find`, of a file that the data set has. Raises ExperimentError if there is none, too."""
        found = self.find(name)
        if found is None:
            raise ExperimentError(f"{self.place} holds no {name}, which {data} has")
        return found

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """What a file holds. Raises ExperimentError naming it if it cannot be read, or holds more bytes than that."""
        path = self.place / name
        if self._is_zip:
            return read_zipped(self._archive(), name, path, limit)
        if self.contents is None:
            return read_file(path, limit)
        if name not in self.contents:
            raise ExperimentError(f"cannot read {path}: it is not in the archive")
        return refuse_pointer(self.contents[name], path)

    def text(self, name: str, otherwise: str | None = None) -> str:
        """What a text file in UTF-8 holds, or in the encoding `otherwise`. Raises ExperimentError naming it if it
        cannot be read.
        """
        return as_text(self.read(name), self.place / name, otherwise)

    def lines(self, name: str) -> list[str]:
        """The lines of a text file, but for empty ones. Raises ExperimentError naming it if it cannot be read."""
        return [line for line in self.text(name).splitlines() if line.strip()]

    def _refuse_twice(self) -> None:
        name, count = Counter(self._archive().namelist() or [""]).most_common(1)[0]
        if count > 1:
            raise ExperimentError(f"{self.place} is refused: it holds {name!r} twice")

    def _archive(self) -> zipfile.ZipFile:
        # A worker process that was forked must not share the position in the file with its parent.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = (os.getpid(), zipfile.ZipFile(require_file(self.place)))
            except ZIP_DAMAGE as error:
                raise ExperimentError(f"cannot read {self.place}: {error}") from error
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def find_stored(*names: str) -> Stored | None:
    """The first of these folders or archives that is on this machine; None, there is none."""
    return next((Stored(place) for place in map(find, names) if place is not None), None)


def download_archive(url: str, name: str, checksum: str | None, advice: str) -> Stored:
    """Downloads a zip archive to `cache_folder()`, under this name.

    Args:
        checksum: such as "sha256:..."; None, none is known.
        advice: what the user may do instead.

    Raises:
        Unavailable: the download failed, or has another checksum. Nothing of it stays behind.
        ExperimentError: it is no archive.
    """
    try:
        return Stored(download(url, checksum, cache_folder(), name))
    except Unavailable as error:
        raise Unavailable(f"{error}; {advice}") from error
