"""Archives that hold data, and those that should not be unpacked."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from lerac_fast.experiments.data.archives import Files, read_archive, unpack
from lerac_fast.experiments.errors import ExperimentError

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
    files = Files(folder)
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


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ExperimentError, match=r"list\.txt is damaged, or no text"):
        Files(tmp_path).lines("list.txt")
    with pytest.raises(ExperimentError, match=r"cannot read .*missing"):
        Files(tmp_path).read("missing")
