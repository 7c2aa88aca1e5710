"""Files of a data set in a folder, or in a zip archive that is read in place, one by one: also of large data sets."""

import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pooch

from lerac_experiments.data.download import find
from lerac_experiments.data.media import Listing, list_folder
from lerac_experiments.data.reading import FILE_LIMIT, ZIP_DAMAGE, as_text, read_file, read_zipped, require_file
from lerac_experiments.data.source import Unavailable, cache_folder
from lerac_experiments.errors import ExperimentError

_TIMEOUT = 20.0  # seconds without an answer


class Stored:
    """The files under a folder, or of a zip archive.

    Attributes:
        place: the folder or archive.
        listing: its files.

    Raises:
        ExperimentError: the folder or archive cannot be read, or a name is in the archive twice.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self.listing = list_folder(place) if place.is_dir() else self._list_archive()

    def find(self, name: str) -> str | None:
        """The name of the file that is called so, in whatever folder; None, there is none.

        Raises:
            ExperimentError: there are several.
        """
        found = [other for other in self.listing.names if other == name or other.endswith(f"/{name}")]
        if len(found) > 1:
            raise ExperimentError(f"{self.place} holds {len(found)} files called {name}: {', '.join(found[:3])}")
        return found[0] if found else None

    def read(self, name: str, limit: int = FILE_LIMIT) -> bytes:
        """What a file holds. Raises ExperimentError naming it if it cannot be read, or holds more bytes than that."""
        path = self.place / name
        return read_file(path, limit) if self.place.is_dir() else read_zipped(self._archive(), name, path, limit)

    def text(self, name: str, otherwise: str | None = None) -> str:
        """What a text file in UTF-8 holds, or in the encoding `otherwise`. Raises ExperimentError naming it if it
        cannot be read.
        """
        return as_text(self.read(name), self.place / name, otherwise)

    def _list_archive(self) -> Listing:
        names = self._archive().namelist()
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ExperimentError(f"{self.place} is refused: it holds {twice[0]!r} twice")
        return Listing.of(names)

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
        downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
        return Stored(Path(pooch.retrieve(url, checksum, fname=name, path=cache_folder(), downloader=downloader)))
    except (OSError, ValueError) as error:  # ValueError: of another checksum
        raise Unavailable(f"the download of {url} failed ({error}); {advice}") from error
