"""Spoken digits, ESC-50 and CREMA-D in their official formats, their spectrograms and what is changed in training."""

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from lerac_fast.experiments.data import stored
from lerac_fast.experiments.data.audio_augmentation import Augmentation, mix_up, resample
from lerac_fast.experiments.data.crema_d import CREMA_D, EMOTIONS
from lerac_fast.experiments.data.esc50 import ESC50
from lerac_fast.experiments.data.examples import Batch, Examples
from lerac_fast.experiments.data.source import DataSet, Parts, Request, Unavailable
from lerac_fast.experiments.data.spectrograms import MelSpectrogram
from lerac_fast.experiments.data.spoken_digits import SPOKEN_DIGITS
from lerac_fast.experiments.errors import ExperimentError
from tests.experiments.data.loading import batches, write_folder, write_zip

Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


def tone(pitch: float, seconds: float, sample_rate: int) -> Tensor:
    """A tone that fades, with an overtone."""
    t = torch.arange(int(seconds * sample_rate)) / sample_rate
    return 0.4 * (-2 * t).exp() * ((2 * torch.pi * pitch * t).sin() + 0.3 * (5 * torch.pi * pitch * t).sin())


def wav(waveform: Tensor, sample_rate: int) -> bytes:
    """A waveform [samples], or [samples, channels], as a file."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def digits() -> Files:
    """Seven recordings of each digit by one speaker, of 0.3 to 1.2 seconds; five of them are to test with."""
    return {
        f"free-spoken-digit-dataset/recordings/{digit}_theo_{number}.wav": wav(
            tone(200 + 50 * digit, 0.3 + 0.1 * digit, 8000), 8000
        )
        for digit in range(10)
        for number in range(7)
    }


def esc50(rows: list[tuple[str, int, int]] | None = None) -> Files:
    """Two recordings in each fold, and the table of their names, folds and classes."""
    if rows is None:
        rows = [(f"{fold}-1-A-{label}.wav", fold, label) for fold in range(1, 6) for label in (7, 20 + fold)]
    table = "filename,fold,target,category,esc10,src_file,take\n" + "".join(
        f"{name},{fold},{label},dog,True,{fold}{label},A\n" for name, fold, label in rows
    )
    audio = {f"ESC-50-master/audio/{name}": wav(tone(300 + 20 * label, 0.5, 44_100), 44_100) for name, _, label in rows}
    return {"ESC-50-master/meta/esc50.csv": table.encode(), **audio}


def crema_d() -> Files:
    """Twenty clips, one with the name that differs in the published data."""
    names = [f"{1001 + i}_DFA_{EMOTIONS[i % 6]}_{'X' if i == 3 else 'XX'}.wav" for i in range(20)]
    return {f"AudioWAV/{name}": wav(tone(200 + 10 * i, 1, 16_000), 16_000) for i, name in enumerate(names)}


def labels_of(examples: Examples) -> list[int]:
    assert examples.labels is not None
    labels: list[int] = examples.labels.tolist()
    return labels


def inputs_of(batch: Batch) -> Tensor:
    assert isinstance(batch.inputs, Tensor)
    return batch.inputs


def check_parts(parts: Parts, classes: int, counts: tuple[int, int, int], frames: int) -> None:
    """Loads all batches of all parts."""
    assert (parts.task, parts.classes) == ("classification", classes)
    for part, count in zip((parts.train, parts.validation, parts.test), counts, strict=True):
        assert len(part) == count
        loaded = batches(part)
        assert torch.cat([batch.indices for batch in loaded]).tolist() == [*range(count)]
        for batch in loaded:
            inputs = inputs_of(batch)
            assert inputs.dtype == torch.float32
            assert inputs.shape == (len(batch.indices), 1, 128, frames)
            assert inputs.min() >= 0
            assert inputs.max() <= 1
            assert isinstance(batch.targets, Tensor)
            assert batch.targets.tolist() == [labels_of(part)[i] for i in batch.indices]


@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_spoken_digits(data_folder: Path, write: Callable[[Path, Files], None]) -> None:
    write(data_folder / ("fsdd.zip" if write is write_zip else "free-spoken-digit-dataset"), digits())
    parts = SPOKEN_DIGITS.load(Request())
    check_parts(parts, 10, (18, 2, 50), frames=126)
    assert labels_of(parts.test) == [digit for digit in range(10) for _ in range(5)]
    assert parts.note == "70 recordings, where 3,000 were published"
    check_parts(SPOKEN_DIGITS.load(Request(train_examples=10, test_examples=4)), 10, (9, 1, 4), frames=126)


@pytest.mark.parametrize("data", [SPOKEN_DIGITS, ESC50, CREMA_D], ids=lambda data: data.name)
def test_augmentation_can_be_switched_off(data_folder: Path, data: DataSet) -> None:
    write_zip(data_folder / "fsdd.zip", digits())
    write_zip(data_folder / "ESC-50-master.zip", esc50())
    write_zip(data_folder / "CREMA-D.zip", crema_d())
    for seed, same in ((None, True), (0, False)):
        train = data.load(Request(augment_seed=seed)).train
        train.epoch = 0
        first = inputs_of(train.__getitems__([0, 1]))
        train.epoch = 1
        assert torch.equal(inputs_of(train.__getitems__([0, 1])), first) == same


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


def test_crema_d_without_a_folder_around_it(data_folder: Path) -> None:
    write_folder(data_folder, crema_d())
    assert len(CREMA_D.load(Request()).train) == 14


def by_hand(waveform: Tensor, sample_rate: int, hop: int) -> Tensor:
    """The spectrogram [128, T] of a waveform [samples], by the definitions."""
    window = np.zeros(1024)
    window[256:768] = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.concatenate([np.zeros(512), waveform.double().numpy(), np.zeros(512)])
    frames = 1 + len(waveform) // hop
    transform = np.exp(-2j * np.pi * np.outer(np.arange(513), np.arange(1024)) / 1024)
    roots = np.stack([np.abs(transform @ (window * padded[t * hop : t * hop + 1024])) ** 0.5 for t in range(frames)], 1)

    def hertz(mel: float) -> float:  # Slaney's scale
        return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    top = sample_rate / 2
    top_mel = 15 + math.log(top / 1000) * 27 / math.log(6.4)
    edges = [hertz(top_mel * i / 129) for i in range(130)]
    mel = np.zeros((128, frames))
    for i in range(128):
        low, middle, high = edges[i : i + 3]
        for k in range(513):
            frequency = k * sample_rate / 1024
            weight = max(0.0, min((frequency - low) / (middle - low), (high - frequency) / (high - middle)))
            mel[i] += weight * 2 / (high - low) * roots[k]
    decibels = 40 * np.log10(np.maximum(mel / mel.max(), 1e-2))
    return torch.from_numpy(decibels / 80 + 1).float()


@pytest.mark.parametrize(("sample_rate", "hop"), [(8000, 64), (16_000, 64), (44_100, 128)])
def test_spectrogram_by_hand(sample_rate: int, hop: int) -> None:
    torch.manual_seed(0)
    waveforms = torch.stack([tone(440, 0.03, sample_rate), 0.1 * torch.randn(int(0.03 * sample_rate))])
    pictures = MelSpectrogram(sample_rate, hop)(waveforms)
    for waveform, picture in zip(waveforms, pictures, strict=True):
        torch.testing.assert_close(picture[0], by_hand(waveform, sample_rate, hop), atol=2e-4, rtol=0)


def test_silence_is_0() -> None:
    assert (MelSpectrogram(8000, 64)(torch.zeros(1, 800)) == 0).all()


def test_resample() -> None:
    waveforms = torch.tensor([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    positions = torch.tensor([[0.0, 1.0, 2.0, 1.5, 0.25], [-1.0, -7.0, 3.0, 50.0, 2.5]])
    expected = [[1, 2, 4, 3, 1.25], [0, 0, 0, 0, 1.5]]
    assert resample(positions, waveforms).tolist() == expected


def test_augmentation_depends_on_seed_epoch_and_example_alone(data_folder: Path) -> None:
    write_zip(data_folder / "fsdd.zip", digits())
    examples = SPOKEN_DIGITS.load(Request()).train
    first = inputs_of(examples.__getitems__([3, 11, 5]))
    assert torch.equal(first, inputs_of(examples.__getitems__([3, 11, 5])))
    torch.testing.assert_close(first[1:2], inputs_of(examples[11]))
    again = SPOKEN_DIGITS.load(Request(augment_seed=1)).train
    assert not torch.equal(first, inputs_of(again.__getitems__([3, 11, 5])))
    examples.epoch = 1
    other = inputs_of(examples.__getitems__([3, 11, 5]))
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    examples.epoch = 0
    assert torch.equal(first, inputs_of(examples.__getitems__([3, 11, 5])))


def test_worker_processes_do_not_matter(data_folder: Path) -> None:
    write_zip(data_folder / "ESC-50-master.zip", esc50())
    examples = ESC50.load(Request()).train
    alone, helped = batches(examples), batches(examples, workers=2)
    assert all(torch.equal(inputs_of(a), inputs_of(b)) for a, b in zip(alone, helped, strict=True))
    sent = pickle.loads(pickle.dumps(examples))
    assert torch.equal(inputs_of(sent[0]), inputs_of(examples[0]))


def test_waveforms_are_changed_within_limits() -> None:
    waveforms = torch.nn.functional.pad(tone(440, 0.7, 8000), (0, 2400)).repeat(64, 1)
    before = waveforms.clone()
    changed = Augmentation(0, 0, [*range(64)]).waveforms(waveforms)
    assert torch.equal(waveforms, before), "what is passed in stays"
    noise_of_the_end = changed[:, 7200:].std(1)
    assert 16 < int((noise_of_the_end > 1e-4).sum()) < 48, "half of them have noise"
    assert noise_of_the_end.max() < 10 ** (-15 / 20) * waveforms.std() * 1.1
    peaks = torch.fft.rfft(changed).abs().argmax(1)
    assert peaks.min() >= 0.9 * 440 - 2
    assert peaks.max() <= 1.1 * 440 + 2
    assert peaks.max() - peaks.min() > 40
    starts = (changed.abs() > 0.1).long().argmax(1)
    assert 600 < starts.max() <= 810


def test_bands_are_masked() -> None:
    pictures = Augmentation(0, 0, [*range(20)]).spectrograms(torch.ones(20, 1, 128, 126))
    rows, columns = (pictures[:, 0] == 0).all(2).sum(1), (pictures[:, 0] == 0).all(1).sum(1)
    assert 12 < rows.max() <= 24
    assert 12 < columns.max() <= 24
    assert (pictures[:, 0].mean((1, 2)) > 0.6).all()


def test_mix_up() -> None:
    batch = Batch(torch.eye(4).view(4, 1, 2, 2), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    shares = set()
    for seed in range(30):
        mixed = mix_up(batch, torch.Generator().manual_seed(seed), classes=4)
        assert isinstance(mixed.targets, Tensor)
        assert mixed.targets.is_floating_point()
        # An example is here what its class is.
        assert torch.equal(inputs_of(mixed).view(4, 4), mixed.targets)
        torch.testing.assert_close(mixed.targets.sum(1), torch.ones(4))
        again = mix_up(batch, torch.Generator().manual_seed(seed), classes=4)
        assert torch.equal(inputs_of(again), inputs_of(mixed))
        shares.add(round(float(mixed.targets.amax()), 3))
    assert len(shares) > 5


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
        (ESC50, "ESC-50.zip", esc50([("a.wav", 1, 50)]), r"a\.wav has the class 50 and the fold 1"),
        (ESC50, "ESC-50.zip", esc50([("a.wav", 2, 3)]), "no recordings of the fold 1"),
        (ESC50, "ESC-50.zip", esc50([("a.wav", 2, 3), ("a.wav", 2, 3)]), "lists a recording twice"),
    ],
    ids=["name", "no test", "none", "emotion", "no clips", "no table", "columns", "fields", "class", "fold", "twice"],
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
    monkeypatch.setattr(stored, "pooch", fake)
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
