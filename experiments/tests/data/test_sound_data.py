"""Spoken digits, ESC-50 and CREMA-D in their official formats."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch

from experiments.tests.data.loading import write_folder, write_zip
from experiments.tests.data.recordings import (
    Files,
    check_parts,
    crema_d,
    digits,
    esc50,
    inputs_of,
    labels_of,
    tone,
    wav,
)
from lerac_experiments.data import download
from lerac_experiments.data.audio import Recordings, SoundExamples
from lerac_experiments.data.crema_d import CREMA_D, EMOTIONS
from lerac_experiments.data.esc50 import ESC50
from lerac_experiments.data.examples import Examples
from lerac_experiments.data.source import DataSet, Request
from lerac_experiments.data.spoken_digits import SPOKEN_DIGITS
from lerac_experiments.errors import ExperimentError, Unavailable


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_spoken_digits(data_folder: Path, write: Callable[[Path, Files], None]) -> None:
    write(data_folder / ("fsdd.zip" if write is write_zip else "free-spoken-digit-dataset"), digits())
    parts = SPOKEN_DIGITS.load(Request())
    check_parts(parts, 10, (18, 2, 50), frames=126)
    assert labels_of(parts.test) == [digit for digit in range(10) for _ in range(5)]
    assert parts.note == "70 recordings, where 3,000 were published"
    check_parts(SPOKEN_DIGITS.load(Request(train_examples=10, test_examples=4)), 10, (9, 1, 4), frames=126)


def test_recordings_in_other_formats_and_folders(data_folder: Path) -> None:
    expected = {}
    for name, content in digits().items():
        waveform, rate = soundfile.read(io.BytesIO(content))
        file, (form, suffix) = io.BytesIO(), [("WAV", ".WAV"), ("FLAC", ".flac")][len(expected) % 2]
        soundfile.write(file, waveform, rate, format=form)
        expected[name.replace("recordings/", "recordings/theo/").replace(".wav", suffix)] = file.getvalue()
    beside = {"recordings/._0_theo_0.wav": b"", "recordings/list.csv": b"", "README.md": b"", ".gitignore": b""}
    write_zip(data_folder / "fsdd.zip", digits())
    before = SPOKEN_DIGITS.load(Request())
    write_zip(data_folder / "fsdd.zip", {**expected, **beside})
    parts = SPOKEN_DIGITS.load(Request())
    assert torch.equal(
        inputs_of(parts.test.__getitems__([*range(50)])), inputs_of(before.test.__getitems__([*range(50)]))
    )
    assert parts.note == f"{before.note}; left out: .csv (1), hidden files or folders (1)"


@pytest.mark.parametrize(("data", "write_them"), [(SPOKEN_DIGITS, digits), (ESC50, esc50), (CREMA_D, crema_d)])
def test_a_part_of_each_recording(data_folder: Path, data: DataSet, write_them: Callable[[], Files]) -> None:
    names = {"spoken-digits": "fsdd.zip", "esc50": "ESC-50-master.zip", "crema-d": "CREMA-D.zip"}
    write_zip(data_folder / names[data.name], write_them())
    whole, part = (data.load(Request(augment_seed=None, seconds=seconds)).train[0].inputs for seconds in (None, 0.25))
    assert part.shape[3] < whole.shape[3] / 3
    assert torch.isfinite(part).all()


def test_all_damaged_recordings_are_counted(data_folder: Path) -> None:
    damaged = {f"free-spoken-digit-dataset/recordings/{digit}_theo_6.wav": b"RIFF" for digit in range(10)}
    write_zip(data_folder / "fsdd.zip", {**digits(), **damaged})
    with pytest.raises(ExperimentError, match=r"cannot read .*_theo_6\.wav.*; of 18 files (8|9|10) cannot be read"):
        SPOKEN_DIGITS.load(Request())


def test_esc50_is_validated_on_sources_of_its_own(data_folder: Path) -> None:
    """Cuts of one recording sound alike."""
    rows = [(f"{fold}-{source}-{cut}-{source % 50}.wav", fold, source % 50)
            for fold in range(1, 6) for source in range(40 * fold, 40 * fold + 12) for cut in "ABC"]  # fmt: skip
    files = esc50(rows)
    lines = files["ESC-50-master/meta/esc50.csv"].decode().splitlines()
    lines[1:] = [f"{name},{fold},{label},dog,True,{name.split('-')[1]},A" for name, fold, label in rows]
    files["ESC-50-master/meta/esc50.csv"] = "\n".join(lines).encode()
    write_zip(data_folder / "ESC-50.zip", files)
    for seed in range(5):
        parts = ESC50.load(Request(fold=seed, split_seed=seed))
        trained, validated, tested = (
            {source_of(part, index) for index in range(len(part))}
            for part in (parts.train, parts.validation, parts.test)
        )
        assert not trained & validated
        assert not (trained | validated) & tested
        assert len(parts.train) + len(parts.validation) == 144
        assert 14 <= len(parts.validation) <= 16
        fewer = ESC50.load(Request(fold=seed, split_seed=seed, train_examples=60))
        trained, validated = (
            {source_of(part, i) for i in range(len(part))} for part in (fewer.train, fewer.validation)
        )
        assert not trained & validated
        assert len(fewer.train) + len(fewer.validation) == 60
    assert "validated on cuts of other recordings" in str(parts.note)


def source_of(examples: Examples, index: int) -> str:
    """The recording that a clip of ESC-50 was cut out of, by its name."""
    assert isinstance(examples, SoundExamples)
    assert isinstance(examples._recordings, Recordings)
    return examples._recordings.names[int(examples._chosen[index])].split("-")[-3]


def test_esc50_of_a_single_source_is_refused(data_folder: Path) -> None:
    files = esc50()
    table = files["ESC-50-master/meta/esc50.csv"].decode().splitlines()
    table[1:] = [",".join([*line.split(",")[:5], "1", "A"]) for line in table[1:]]
    files["ESC-50-master/meta/esc50.csv"] = "\n".join(table).encode()
    write_zip(data_folder / "ESC-50.zip", files)
    with pytest.raises(ExperimentError, match=r"8 training examples of 1 sources, .* too few to split"):
        ESC50.load(Request())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_that_was_saved_on_windows(data_folder: Path, encoding: str, end: str) -> None:
    files = esc50()
    table = files["ESC-50-master/meta/esc50.csv"].decode()
    write_zip(
        data_folder / "ESC-50.zip", {**files, "ESC-50-master/meta/esc50.csv": table.replace("\n", end).encode(encoding)}
    )
    check_parts(ESC50.load(Request()), 50, (7, 1, 2), frames=1723)


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_esc50(data_folder: Path, write: Callable[[Path, Files], None]) -> None:
    write(data_folder / ("ESC-50-master.zip" if write is write_zip else "."), esc50())
    check_parts(ESC50.load(Request()), 50, (7, 1, 2), frames=1723)
    for fold in range(5):
        parts = ESC50.load(Request(fold=fold))
        assert labels_of(parts.test) == [7, 21 + fold]
        assert 21 + fold not in labels_of(parts.train) + labels_of(parts.validation)
    with pytest.raises(ExperimentError, match="no fold 5"):
        ESC50.load(Request(fold=5))


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_crema_d(data_folder: Path, write: Callable[[Path, Files], None]) -> None:
    write(data_folder / ("CREMA-D.zip" if write is write_zip else "CREMA-D"), crema_d())
    parts = CREMA_D.load(Request())
    check_parts(parts, 6, (14, 3, 3), frames=1001)
    assert parts.note is not None
    assert "20 clips, where 7,442 were published" in parts.note
    assert labels_of(parts.test) == labels_of(CREMA_D.load(Request(split_seed=1)).test)
    fewer = CREMA_D.load(Request(train_examples=10, test_examples=1))
    assert [len(part) for part in (fewer.train, fewer.validation, fewer.test)] == [8, 2, 1]


def speakers_of(examples: Examples) -> set[str]:
    assert isinstance(examples, SoundExamples)
    assert isinstance(examples._recordings, Recordings)
    return {Path(examples._recordings.names[index]).name[:4] for index in examples._chosen.tolist()}


def test_crema_d_by_speaker(data_folder: Path) -> None:
    clip = wav(tone(200, 0.2, 16_000), 16_000)
    names = [f"{1001 + speaker}_DFA_{emotion}_XX.wav" for speaker in range(20) for emotion in EMOTIONS]
    write_zip(data_folder / "CREMA-D.zip", {f"AudioWAV/{name}": clip for name in names})
    divided = CREMA_D.load(Request(by_speaker=True))
    train, validation, test = map(speakers_of, (divided.train, divided.validation, divided.test))
    assert (len(train), len(validation), len(test)) == (14, 3, 3)
    assert len(train | validation | test) == 20
    assert [len(part) for part in (divided.train, divided.validation, divided.test)] == [84, 18, 18]
    assert "no part has a speaker of another" in str(divided.note)
    assert speakers_of(CREMA_D.load(Request(by_speaker=True, split_seed=1)).test) == test
    fewer = CREMA_D.load(Request(by_speaker=True, train_examples=40, test_examples=9))
    assert [len(part) for part in (fewer.train, fewer.validation, fewer.test)] == [33, 7, 9]
    assert speakers_of(fewer.train) <= train
    usual = CREMA_D.load(Request())
    assert speakers_of(usual.train) & speakers_of(usual.test)
    assert "all parts have the same speakers" in str(usual.note)


def test_crema_d_without_a_folder_around_it(data_folder: Path) -> None:
    write_folder(data_folder, crema_d())
    assert len(CREMA_D.load(Request()).train) == 14


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(tone(440, 0.5, 8000), 8000)[:-100], "is cut off: it announces 8044 bytes, and has 7944"),
        (wav(tone(440, 0.5, 16_000), 16_000), "8000 samples of 1 channels at 16000 Hz; .* 1 channel at 8000 Hz"),
        (wav(tone(440, 0.5, 8000).repeat(2, 1).T, 8000), "4000 samples of 2 channels"),
        (wav(torch.zeros(0), 8000), "0 samples"),
        (b"RIFF", "cannot read"),
        (b"", "cannot read"),
    ],
    ids=["cut", "rate", "channels", "none", "header", "empty"],
)
@pytest.mark.parametrize("number", [0, 6])
def test_damaged_recordings_are_named(data_folder: Path, content: bytes, message: str, number: int) -> None:
    name = f"free-spoken-digit-dataset/recordings/4_theo_{number}.wav"
    write_zip(data_folder / "fsdd.zip", {**digits(), name: content})
    with pytest.raises(ExperimentError, match=message) as caught:
        SPOKEN_DIGITS.load(Request())
    assert str(data_folder / "fsdd.zip" / name) in str(caught.value)


def test_a_damaged_archive_is_named(data_folder: Path) -> None:
    write_zip(data_folder / "fsdd.zip", digits())
    archive = bytearray((data_folder / "fsdd.zip").read_bytes())
    archive[500:540] = bytes(40)
    (data_folder / "fsdd.zip").write_bytes(archive)
    with pytest.raises(ExperimentError, match=r"cannot read .*fsdd\.zip/free-spoken.*0_theo_0\.wav"):
        SPOKEN_DIGITS.load(Request())
    (data_folder / "fsdd.zip").write_bytes(archive[:-50])
    with pytest.raises(ExperimentError, match=r"cannot read .*fsdd\.zip: "):
        SPOKEN_DIGITS.load(Request())


@pytest.mark.parametrize(
    ("data", "archive", "files", "message"),
    [
        (SPOKEN_DIGITS, "fsdd.zip", {"recordings/four.wav": b""}, r"four\.wav is not named as \{digit\}_"),
        (SPOKEN_DIGITS, "fsdd.zip", {"recordings/4_theo_9.wav": b""}, "no recordings to test with"),
        (SPOKEN_DIGITS, "fsdd.zip", {"README.md": b""}, "no recordings to test with"),
        (CREMA_D, "CREMA-D.zip", {"AudioWAV/1001_DFA_JOY_XX.wav": b""}, "JOY_XX.wav is not named as 1001_DFA"),
        (CREMA_D, "CREMA-D.zip", {"README.md": b""}, "holds 0 clips of CREMA-D"),
        (ESC50, "ESC-50.zip", {"README.md": b""}, r"no meta/esc50\.csv"),
        (ESC50, "ESC-50.zip", {"E/meta/esc50.csv": b"name,class\na,1\n"}, r"esc50\.csv, line 2: .*'filename'"),
        (ESC50, "ESC-50.zip", {"E/meta/esc50.csv": b"filename,fold,target\na.wav,1\n"}, "line 2: no filename"),
        (
            ESC50,
            "ESC-50.zip",
            {"E/meta/esc50.csv": b"filename,fold,target\na.wav,1,2\n", "E/audio/a.wav": b""},
            "src_file",
        ),
        (ESC50, "ESC-50.zip", esc50([("a.wav", 1, 50)]), r"a\.wav has the class 50 and the fold 1"),
        (ESC50, "ESC-50.zip", esc50([("a.wav", 2, 3)]), "no recordings of the fold 1"),
        (ESC50, "ESC-50.zip", esc50([("a.wav", 2, 3), ("a.wav", 2, 3)]), "lists a recording twice"),
    ],
    ids=[
        "name",
        "no test",
        "none",
        "emotion",
        "no clips",
        "no table",
        "columns",
        "fields",
        "source",
        "class",
        "fold",
        "twice",
    ],
)
def test_other_files_than_expected(data_folder: Path, data: DataSet, archive: str, files: Files, message: str) -> None:
    write_zip(data_folder / archive, files)
    with pytest.raises(ExperimentError, match=message) as caught:
        data.load(Request())
    assert str(data_folder) in str(caught.value)


def test_a_missing_recording_is_named(data_folder: Path) -> None:
    files = esc50()
    del files["ESC-50-master/audio/3-1-A-7.wav"]
    write_zip(data_folder / "ESC-50.zip", files)
    with pytest.raises(ExperimentError, match=r"3-1-A-7\.wav is missing, which .*esc50\.csv lists"):
        ESC50.load(Request())


@pytest.mark.parametrize(
    ("data", "files", "frames"), [(SPOKEN_DIGITS, digits(), 126), (ESC50, esc50(), 1723)], ids=["digits", "esc50"]
)
def test_download(data_folder: Path, monkeypatch: pytest.MonkeyPatch, data: DataSet, files: Files, frames: int) -> None:
    def retrieve(url: str, checksum: str | None, fname: str, path: Path, downloader: object) -> str:
        assert url.startswith("https://github.com/")
        assert checksum is None or len(checksum) == len("sha256:") + 64
        assert downloader is not None
        write_zip(path / fname, files)
        return str(path / fname)

    fake = SimpleNamespace(retrieve=retrieve, HTTPDownloader=lambda timeout: timeout)
    monkeypatch.setattr(download, "pooch", fake)
    parts = data.load(Request())
    assert inputs_of(parts.train[0]).shape[-1] == frames
    assert str(data_folder) in parts.source

    def fail(*_: object, **__: object) -> str:
        raise AssertionError("it is there already")

    monkeypatch.setattr(fake, "retrieve", fail)
    assert len(data.load(Request()).train) == len(parts.train)


@pytest.mark.parametrize("data", [SPOKEN_DIGITS, ESC50], ids=lambda data: data.name)
def test_no_network(monkeypatch: pytest.MonkeyPatch, data: DataSet) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.retrieve", fail)
    with pytest.raises(Unavailable, match=r"no route to host.*put .* into the folder"):
        data.load(Request())


def test_crema_d_says_where_it_is_looked_for(data_folder: Path) -> None:
    with pytest.raises(Unavailable, match=r"CREMA-D/AudioWAV/1001_DFA_ANG_XX\.wav") as caught:
        CREMA_D.load(Request())
    assert str(data_folder) in str(caught.value)
