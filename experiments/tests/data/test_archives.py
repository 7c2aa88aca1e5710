"""Archives that hold data, and those that should not be unpacked."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from experiments.tests.data.loading import peak_below
from lerac_experiments.data import reading, tars
from lerac_experiments.data.archives import read_archive, unpack
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

CONTENTS = {"set/a.txt": b"a", "set/deep/b.txt": b"b" * 1000, "other/c.txt": b"c"}
LIMIT = 10_000
SUFFIXES = (".zip", ".tar", ".tar.gz")


def write_archive(path: Path, contents: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("set/", b"")
            for name, content in contents.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tarred:
            folder = tarfile.TarInfo("set")
            folder.type = tarfile.DIRTYPE
            tarred.addfile(folder)
            for name, content in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tarred.addfile(info, io.BytesIO(content))
    return path


def write_special(path: Path, kind: str) -> Path:
    """An archive with a link or a device in it."""
    if path.suffix == ".zip":
        info = zipfile.ZipInfo("set/special")
        info.external_attr = {"link": stat.S_IFLNK, "device": stat.S_IFCHR}[kind] << 16
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr(info, "/etc/passwd")
    else:
        special = tarfile.TarInfo("set/special")
        special.type = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}[kind]
        special.linkname = "/etc/passwd"
        with tarfile.open(path, "w") as tarred:
            tarred.addfile(special)
    return path


def refused(archive: Path, message: str, limit: int = LIMIT) -> None:
    """Neither reading nor unpacking serves it, and nothing stays behind."""
    into = archive.parent / "into"
    for attempt in (lambda: read_archive(archive, "set", limit), lambda: unpack([archive], "set", into, limit)):
        with pytest.raises(ExperimentError, match=message) as caught:
            attempt()
        assert str(archive) in str(caught.value)
    assert [*into.rglob("*")] == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unpack(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"data{suffix}", CONTENTS)
    folder = unpack([archive], "set", tmp_path / "into", LIMIT)
    assert folder == tmp_path / "into" / "set"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {"a.txt", "deep", "deep/b.txt"}
    files = Stored(folder)
    assert files.read("deep/b.txt") == CONTENTS["set/deep/b.txt"]
    assert files.has("a.txt")
    assert not files.has("deep")
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["set"], "and nothing beside it"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_in_place(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"data{suffix}", CONTENTS)
    files = read_archive(archive, "set", LIMIT)
    assert files.contents == {"a.txt": b"a", "deep/b.txt": b"b" * 1000}
    assert files.read("a.txt") == b"a"
    assert files.has("a.txt")
    with pytest.raises(ExperimentError, match=r"cannot read .*missing: it is not in the archive"):
        files.read("missing")


def test_archives_that_complement_each_other(tmp_path: Path) -> None:
    first = write_archive(tmp_path / "1.tar", {"kit/set/a": b"a"})
    second = write_archive(tmp_path / "2.tar", {"kit/set/b": b"b"})
    folder = unpack([first, second], "kit/set", tmp_path, LIMIT)
    assert folder == tmp_path / "kit" / "set"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_all_or_nothing(tmp_path: Path) -> None:
    good, bad = write_archive(tmp_path / "1.tar", CONTENTS), write_archive(tmp_path / "2.tar", {"other/c": b"c"})
    with pytest.raises(ExperimentError, match=r"2\.tar holds no files in a folder set"):
        unpack([good, bad], "set", tmp_path / "into", LIMIT)
    assert [*(tmp_path / "into").iterdir()] == []


def test_another_process_was_faster(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "data.zip", CONTENTS)
    theirs = tmp_path / "set" / "a.txt"
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    assert unpack([archive], "set", tmp_path, LIMIT) == tmp_path / "set"
    assert theirs.read_bytes() == b"theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.zip", "set"]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "data.zip", CONTENTS)
    (tmp_path / "into").write_text("a file")
    with pytest.raises(ExperimentError, match=r"cannot unpack .*data\.zip into .*into/set"):
        unpack([archive], "set", tmp_path / "into", LIMIT)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["/tmp/x", "../x", "set/../../x", "C:/x", "set\\..\\..\\x", "\\x"])
def test_members_outside_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    refused(write_archive(tmp_path / f"data{suffix}", {**CONTENTS, name: b"x"}), "would lie outside")


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [(".zip", "link"), (".zip", "device"), (".tar", "link"), (".tar", "hard link"), (".tar", "device")],
)
def test_links_and_devices_are_refused(tmp_path: Path, suffix: str, kind: str) -> None:
    refused(write_special(tmp_path / f"data{suffix}", kind), "'set/special' is a link or a device")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"data{suffix}", CONTENTS)
    refused(archive, r"unpacks to more than 1,001 bytes", limit=1001)
    assert read_archive(archive, "set", limit=1002).contents is not None


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", ["cut", "other bytes", "empty", "missing"])
def test_damage_is_named(tmp_path: Path, suffix: str, damage: str) -> None:
    archive = write_archive(tmp_path / f"data{suffix}", CONTENTS)
    content = archive.read_bytes()
    kept = {"cut": content[: len(content) // 3], "other bytes": b"x" * 2000, "empty": b""}
    archive.unlink() if damage == "missing" else archive.write_bytes(kept[damage])
    refused(archive, "cannot read")


@pytest.mark.parametrize("length", [1024, 1030, 1536, 2000, 2048, 2500, 4096])
def test_a_tar_cut_anywhere_is_not_taken_for_a_shorter_one(tmp_path: Path, length: int) -> None:
    """Between members, in a header, and in a file."""
    archive = write_archive(tmp_path / "data.tar", CONTENTS)
    archive.write_bytes(archive.read_bytes()[:length])
    refused(archive, "cannot read")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "data.tar", CONTENTS)
    archive.write_bytes(archive.read_bytes().replace(b"set/deep/b.txt", b"set/deep/x.txt"))
    refused(archive, "a header in it is damaged")


def test_a_changed_byte_in_a_zip_is_named(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "data.zip", CONTENTS)
    archive.write_bytes(archive.read_bytes().replace(b"b" * 1000, b"b" * 999 + b"c"))
    refused(archive, "Bad CRC-32")


def header(kind: bytes, content: bytes, size: int | None = None) -> bytes:
    """A header of a tar archive with what belongs to it."""
    info = tarfile.TarInfo("set/a")
    info.type, info.size = kind, len(content) if size is None else size
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def with_checksum(block: bytes) -> bytes:
    """A header of a tar archive, after a change."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def sparse_header() -> bytes:
    """Of a sparse file, which says that a further part of its map follows."""
    block = bytearray(header(tarfile.GNUTYPE_SPARSE, b""))
    block[482] = 1
    return with_checksum(bytes(block))


def records(content: dict[str, str]) -> bytes:
    """Of a PAX header."""
    lines = [f"{key}={value}\n" for key, value in content.items()]
    return "".join(f"{len(line) + 11:010} {line}" for line in lines).encode()


MANY = 1 << 20
A_FILE = header(tarfile.REGTYPE, b"a")
HOSTILE = {
    "long name": header(tarfile.GNUTYPE_LONGNAME, b"x" * MANY),
    "long link": header(tarfile.GNUTYPE_LONGLINK, b"x" * MANY),
    "pax": header(tarfile.XHDTYPE, records({"comment": "x" * MANY})),
    "pax of all files": header(tarfile.XGLTYPE, records({"comment": "x" * MANY})),
    "pax of Solaris": header(tarfile.SOLARIS_XHDTYPE, records({"comment": "x" * MANY})),
    "long names": header(tarfile.GNUTYPE_LONGNAME, b"x" * (MANY // 20)) * 20,
    "sparse": sparse_header() + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * (MANY // 512),
    "sparse by pax": header(
        tarfile.XHDTYPE,
        records({"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1", "path": "set/b"}),
    )
    + header(tarfile.REGTYPE, b"9" * 15 + b"\n" + b"0\n" * MANY),
}


@pytest.mark.parametrize("before", [b"", A_FILE], ids=["first", "later"])
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_headers_of_tar_archives_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str, before: bytes
) -> None:
    """Their sizes count for nothing that is unpacked, so that a few compressed bytes take any memory."""
    monkeypatch.setattr(tars, "_HEADER_LIMIT", 1 << 14)
    content = before + HOSTILE[kind] + A_FILE + bytes(1024)
    archive = tmp_path / f"data{suffix}"
    archive.write_bytes(gzip.compress(content) if suffix == ".tar.gz" else content)
    with peak_below(MANY):
        refused(archive, "headers are too large", limit=100_000_000)


def test_all_headers_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "data.tar"
    with tarfile.open(archive, "w") as file:
        for number in range(1000):
            file.addfile(tarfile.TarInfo(f"set/{number}"))
    contents = read_archive(archive, "set", LIMIT).contents
    assert contents is not None
    assert len(contents) == 1000
    monkeypatch.setattr(tars, "_HEADERS_LIMIT", 999 * 512)
    refused(archive, "headers are too large")


def test_long_names_that_are_names(tmp_path: Path) -> None:
    name = "/".join(["deep" * 10] * 20)
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "data.tar", "w", format=kind) as file:
            info = tarfile.TarInfo(f"set/{name}")
            info.size = 3
            file.addfile(info, io.BytesIO(b"abc"))
        assert read_archive(tmp_path / "data.tar", "set", LIMIT).contents == {name: b"abc"}


def test_a_header_with_less_than_nothing(tmp_path: Path) -> None:
    """It would make room for others."""
    block = bytearray(A_FILE[:512])
    block[124:136] = b"\xff" * 11 + b"\xfe"
    (tmp_path / "data.tar").write_bytes(with_checksum(bytes(block)) + bytes(1024))
    refused(tmp_path / "data.tar", "cannot read.* -2 bytes")


def shorten(archive: Path, size: int) -> None:
    """Has the only member of a zip archive claim this size."""
    content = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        start = content.index(mark) + at
        content[start : start + 4] = size.to_bytes(4, "little")
    archive.write_bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_expands_to_no_more_than_it_states(tmp_path: Path, method: int) -> None:
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("set/a", bytes(1 << 25))
    shorten(archive, 10)
    with peak_below(MANY):
        refused(archive, "Bad CRC-32" if method == zipfile.ZIP_DEFLATED else "compressed by the method")
        with pytest.raises(ExperimentError, match=r"cannot read .*data\.zip/set/a"):
            Stored(archive).read("set/a")


def test_a_zipped_file_is_bounded(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "data.zip", CONTENTS)
    assert Stored(archive).read("set/deep/b.txt", limit=1000) == b"b" * 1000
    with pytest.raises(ExperimentError, match=r"b\.txt is refused: it holds 1,000 bytes, and at most 999"):
        Stored(archive).read("set/deep/b.txt", limit=999)


def test_a_file_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        file.truncate(reading.FILE_LIMIT + 1)  # which takes no room
    with pytest.raises(ExperimentError, match=rf"{tmp_path}/a is refused: it holds 1,000,000,001 bytes"):
        Stored(tmp_path).read("a")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_name_twice_is_refused(tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"data{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("set/a", b"1")
            with pytest.warns(UserWarning, match="Duplicate name"):
                zipped.writestr("set/a", b"2")
        with pytest.raises(ExperimentError, match=rf"{archive} is refused: it holds 'set/a' twice"):
            Stored(archive)
    else:
        with tarfile.open(archive, "w:gz" if suffix == ".tar.gz" else "w") as tarred:
            tarred.addfile(tarfile.TarInfo("set/a"))
            tarred.addfile(tarfile.TarInfo("set/a"))
    refused(archive, "holds 'set/a' twice")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_is_not_waited_for(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"data{suffix}")
    refused(tmp_path / f"data{suffix}", "it is no file")
    with pytest.raises(ExperimentError, match="it is no file"):
        Stored(tmp_path).read(f"data{suffix}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ExperimentError, match=r"list\.txt is damaged, or no text"):
        Stored(tmp_path).lines("list.txt")
    with pytest.raises(ExperimentError, match=r"cannot read .*missing"):
        Stored(tmp_path).read("missing")
