"""Idx files that are not what they claim to be. Others: test_fashion_mnist.py."""

import gzip
import os
from pathlib import Path

import pytest

from experiments.tests.data.loading import peak_below
from lerac_experiments.data import idx
from lerac_experiments.data.idx import read_idx
from lerac_experiments.errors import ExperimentError


def header(*sizes: int) -> bytes:
    return bytes((0, 0, 8, len(sizes))) + b"".join(size.to_bytes(4, "big") for size in sizes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(600, 28, 28) + b"x" * 50, "announces 600 x 28 x 28 bytes, and 50 follow"),
        (header(2, 3) + bytes(1 << 25), "announces 2 x 3 bytes, and 7 follow, or more"),
        (header(1 << 31, 28, 28), "is refused: it announces 2147483648 x 28 x 28 bytes, and at most 1,000,000,000"),
        (header(*[1 << 31] * 255), "is refused: it announces 2147483648 x "),
        (bytes(1 << 25), "is no idx file of unsigned bytes"),
    ],
    ids=["claims more", "holds more", "claims too much", "many sizes", "zeros"],
)
def test_no_more_is_read_than_announced(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(content))
    with peak_below(5_000_000), pytest.raises(ExperimentError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_the_limit_can_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(header(4, 5) + bytes(20)))
    monkeypatch.setattr(idx, "_LIMIT", 20)
    assert read_idx(path).shape == (4, 5)
    monkeypatch.setattr(idx, "_LIMIT", 19)
    with pytest.raises(ExperimentError, match="at most 19 are expected"):
        read_idx(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gz")
    (tmp_path / "pointer.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(ExperimentError, match=r"cannot read .*pipe\.gz: it is no file"):
        read_idx(tmp_path / "pipe.gz")
    with pytest.raises(ExperimentError, match=r"pointer\.gz is a pointer of Git LFS, .* run `git lfs pull`"):
        read_idx(tmp_path / "pointer.gz")
