"""Looking for files and downloading them, from a server on this machine."""

import gc
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lerac_experiments.data.download import find, find_or_download
from lerac_experiments.errors import Unavailable

CONTENT = b"data"
MD5 = hashlib.md5(CONTENT).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a file that a server has, and the data folder has not."""
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "data.zip").write_bytes(CONTENT)
    handler = partial(QuietHandler, directory=str(tmp_path / "server"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/data.zip"
        server.shutdown()
        thread.join()


def test_download_happens_once(tmp_path: Path, url: str) -> None:
    assert find("data.zip") is None
    path = find_or_download(url, MD5)
    assert path == tmp_path / "data" / "data.zip"
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"what the user put there")
    assert find_or_download(url, MD5) == path == find("data.zip")
    assert path.read_bytes() == b"what the user put there"


@pytest.fixture
def _garbage() -> Iterator[None]:
    yield
    gc.collect()


# pooch leaves the connection of an answer such as 404 to the garbage collector, which complains.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("_garbage")
@pytest.mark.parametrize(("name", "message"), [("data.zip", "hash"), ("missing.zip", "404")])
def test_failures_leave_nothing_behind(tmp_path: Path, url: str, name: str, message: str) -> None:
    url = url.replace("data.zip", name)
    with pytest.raises(Unavailable, match=f"there is no {name} in .*/data, and the download of {url} failed") as caught:
        find_or_download(url, "0" * 32)
    assert message in str(caught.value)
    assert [*(tmp_path / "data").iterdir()] == []


def test_no_server(url: str) -> None:
    with pytest.raises(Unavailable, match="failed"):
        find_or_download(url.replace("http://127", "http://nowhere.invalid:1/127"), MD5)
