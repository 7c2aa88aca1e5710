"""`sounds:`: recordings as people have them."""

import io
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

from experiments.tests.data.own.helpers import counts, faulty, load, refused, write
from experiments.tests.data.recordings import tone
from lerac_experiments.data.own.sounds import AnyRecordings
from lerac_experiments.data.source import Request
from lerac_experiments.data.stored import Stored

CLASSES = ("high", "low")


def sound(waveform: Tensor, rate: int = 8000, form: str = "WAV", subtype: str | None = None) -> bytes:
    """A waveform [samples], or [samples, channels], as a file."""
    file = io.BytesIO()
    soundfile.write(file, waveform.numpy(), rate, format=form, subtype=subtype)
    return file.getvalue()


def folder_of(folder: Path, each: int = 5, seconds: float = 0.3) -> Path:
    files = {
        f"{name}/{i}.wav": sound(tone(300 + 300 * at, seconds + 0.01 * i, 8000))
        for at, name in enumerate(CLASSES)
        for i in range(each)
    }
    return write(folder, files)


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    parts = load(f"sounds:{folder_of(tmp_path)}")
    assert (parts.classes, parts.class_names, counts(parts)) == (2, CLASSES, (7, 1, 2))
    assert "0.34 s at 8000 Hz" in (parts.note or "")
    assert parts.mix is not None
    batch = parts.test.__getitems__([0, 1])
    assert isinstance(batch.inputs, Tensor)
    assert batch.inputs.shape == (2, 1, 128, 1 + 2720 // 128)
    assert parts.test.told(0).startswith(("high/", "low/"))


def test_all_rates_channels_depths_and_formats_sound_alike(tmp_path: Path) -> None:
    """Within what a format loses."""
    waves = {rate: tone(400, 0.4, rate) for rate in (8000, 11_025, 16_000, 44_100)}
    stereo = torch.stack([waves[16_000], waves[16_000]], dim=1)
    files = {
        "usual.wav": sound(waves[16_000], 16_000),
        "8 bit.wav": sound(waves[16_000], 16_000, subtype="PCM_U8"),
        "24 bit.wav": sound(waves[16_000], 16_000, subtype="PCM_24"),
        "float.WAV": sound(waves[16_000], 16_000, subtype="FLOAT"),
        "stereo.wav": sound(stereo, 16_000),
        "a.flac": sound(waves[44_100], 44_100, "FLAC"),
        "a.ogg": sound(waves[44_100], 44_100, "OGG", "VORBIS"),
        "a.mp3": sound(waves[44_100], 44_100, "MP3", "MPEG_LAYER_III"),
        "low.wav": sound(waves[8000]),
        "odd.wav": sound(waves[11_025], 11_025),
    }
    write(tmp_path, files)
    recordings = AnyRecordings(Stored(tmp_path), sorted(files), 16_000, 6000)
    expected = waves[16_000][:6000]
    for name, waveform in zip(recordings.names, recordings.read([*range(len(files))]), strict=True):
        middle = slice(1500, 4500)  # filters and encoders have their own way with beginnings and ends
        error = (waveform[middle] - expected[middle]).abs().max() / expected[middle].abs().max()
        assert error < (0.2 if name in ("a.mp3", "a.ogg", "8 bit.wav") else 0.02), name


def test_what_is_kept_in_memory_is_what_is_in_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = load(f"sounds:{folder_of(tmp_path)},rate=6000,seconds=0.2,hop=64")
    assert "0.2 s at 6000 Hz, to which 10 longer recordings are cut off" in (kept.note or "")
    monkeypatch.setattr("lerac_experiments.data.own.sounds.KEPT_BYTES", 0)
    read = load(f"sounds:{tmp_path},rate=6000,seconds=0.2,hop=64,skip-damaged")
    numbers = [*range(len(kept.train))]
    assert torch.equal(kept.train.__getitems__(numbers).inputs, read.train.__getitems__(numbers).inputs)  # type: ignore[arg-type]


def test_damaged_recordings_are_named_and_counted(tmp_path: Path) -> None:
    folder_of(tmp_path)
    whole = sound(tone(300, 0.3, 8000))
    mp3 = sound(tone(300, 1.0, 16_000), 16_000, "MP3", "MPEG_LAYER_III")
    flac = sound(tone(300, 0.3, 8000), 8000, "FLAC")
    not_numbers = torch.full((800,), torch.nan)
    write(
        tmp_path,
        {
            "low/cut.wav": whole[:1000],
            "low/cut.mp3": mp3[: len(mp3) // 2],
            "low/cut.flac": flac[: len(flac) // 2],
            "low/empty.wav": b"",
            "low/no samples.wav": sound(torch.zeros(0)),
            "low/nan.wav": sound(not_numbers, subtype="FLOAT"),
            "low/text.mp3": "no sound",
            "low/song.m4a": "of a format that is not read",
        },
    )
    parts = faulty(f"sounds:{tmp_path}", "damaged recordings")
    assert sum(counts(parts)) == 10
    assert parts.left_out["low/song.m4a"] == ".m4a"
    assert "damaged recordings (7)" in (parts.note or "")


def test_a_list_of_recordings(tmp_path: Path) -> None:
    folder_of(tmp_path)
    rows = "".join(f"{name}/{i}.wav;{name}\n" for name in CLASSES for i in range(5))
    write(tmp_path, {"list.csv": "path;class\n" + rows})
    parts = load(f"sounds:{tmp_path}/list.csv,delimiter=semicolon,file=path,label=class")
    assert counts(parts) == (7, 1, 2)
    assert parts.source.endswith("list.csv")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a/1.wav": "", "b/1.wav": ""})
    refused(f"sounds:{tmp_path},skip-damaged", "none of 2 recordings can be read")
    refused(f"sounds:{tmp_path},size=3", "'size' is no option of sounds")
    refused(f"sounds:{tmp_path}/c", "there is no")


def test_less_of_each_recording_and_fewer_of_them(tmp_path: Path) -> None:
    """As a plan asks for it, whatever the options say."""
    parts = load(f"sounds:{folder_of(tmp_path, each=20)},seconds=0.3", Request(seconds=0.2, share=1e-6))
    assert counts(parts) == (9, 1, 8)
    assert "0.2 s at 8000 Hz" in (parts.note or "")
