"""Files of a data set in a folder, or in a zip archive that is read in place, one by one: also of large data sets."""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import pooch

from lerac_fast.experiments.data.download import find
from lerac_fast.experiments.data.source import Unavailable, cache_folder
from lerac_fast.experiments.errors import ExperimentError

_TIMEOUT = 20.0  # seconds without an answer
# zipfile raises RuntimeError for passwords, and NotImplementedError for unknown methods of compression.
_DAMAGE = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


class Stored:
    """The files under a folder, or of a zip archive.

    Attributes:
        place: the folder or archive.
        names: of the files, with `/`, sorted.

    Raises:
        ExperimentError: the folder or archive cannot be read.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        try:
            names = self._names_in_folder() if place.is_dir() else self._archive().namelist()
        except _DAMAGE as error:
            raise ExperimentError(f"cannot read {place}: {error}") from error
        self.names = sorted(name for name in names if not name.endswith("/") and not _made_by_macos(name))

    def find(self, name: str) -> str | None:
        """The name of the file that is called so, in whatever folder; None, there is none.

        Raises:
            ExperimentError: there are several.
        """
        found = [other for other in self.names if other == name or other.endswith(f"/{name}")]
        if len(found) > 1:
            raise ExperimentError(f"{self.place} holds {len(found)} files called {name}: {', '.join(found[:3])}")
        return found[0] if found else None

    def in_folder(self, folder: str, suffix: str) -> list[str]:
        """The names of the files with this suffix that lie in a folder called so, wherever that is."""
        return [name for name in self.names if name.endswith(suffix) and PurePosixPath(name).parent.name == folder]

    def read(self, name: str) -> bytes:
        """What a file holds. Raises ExperimentError naming it if it cannot be read."""
        try:
            return (self.place / name).read_bytes() if self.place.is_dir() else self._archive().read(name)
        except _DAMAGE as error:
            raise ExperimentError(f"cannot read {self.place / name}: {error}") from error
        except KeyError:
            raise ExperimentError(f"cannot read {self.place / name}: it is not in the archive") from None

    def text(self, name: str) -> str:
        """What a text file holds. Raises ExperimentError naming it if it cannot be read."""
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ExperimentError(f"{self.place / name} is damaged, or no text: {error}") from error

    def _names_in_folder(self) -> list[str]:
        return [path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file()]

    def _archive(self) -> zipfile.ZipFile:
        # A worker process that was forked must not share the position in the file with its parent.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.place))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def _made_by_macos(name: str) -> bool:
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith("._")


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
