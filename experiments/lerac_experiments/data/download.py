"""Where the files of data sets are: on this machine, or else downloaded to it."""

from pathlib import Path

import pooch

from lerac_experiments.data.source import cache_folder, data_folder
from lerac_experiments.errors import Unavailable

_TIMEOUT = 20.0  # seconds without an answer


def find(name: str) -> Path | None:
    """A file or folder of the data folder, or else of the one for downloads; None, there is none."""
    return next((path for path in (data_folder() / name, cache_folder() / name) if path.exists()), None)


def find_or_download(url: str, md5: str) -> Path:
    """The file of this URL: the one that `find` finds by its name, or else a download with this checksum.

    Raises:
        Unavailable: there is none, and the download failed, or is another file. Nothing of it stays behind.
    """
    name = url.rpartition("/")[2]
    found = find(name)
    if found is not None:
        return found
    try:
        return download(url, f"md5:{md5}", cache_folder())
    except Unavailable as error:
        raise Unavailable(f"there is no {name} in {data_folder()}, and {error}") from error


def download(url: str, checksum: str | None, folder: Path, name: str | None = None) -> Path:
    """Downloads a file into a folder, unless it is there; whole or not at all, whoever else does the same.

    Args:
        checksum: such as "md5:..."; None, none is known.
        name: of the file; None, as in the URL.

    Raises:
        Unavailable: the download failed, or is a file with another checksum.
    """
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT)
    try:
        return Path(
            pooch.retrieve(url, checksum, fname=name or url.rpartition("/")[2], path=folder, downloader=downloader)
        )
    except (OSError, ValueError) as error:  # ValueError: of another checksum
        raise Unavailable(f"the download of {url} failed ({error})") from error
