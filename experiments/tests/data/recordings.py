"""What the tests of sound share: recordings in the official formats of the data sets."""

import io

import soundfile
import torch
from torch import Tensor

from experiments.tests.data.loading import batches
from lerac_experiments.data.crema_d import EMOTIONS
from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.source import Parts

Files = dict[str, bytes]


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
