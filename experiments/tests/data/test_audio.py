"""Spectrograms of recordings, and what is changed in training."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from experiments.tests.data.loading import batches, write_zip
from experiments.tests.data.recordings import crema_d, digits, esc50, inputs_of, tone
from lerac_experiments.data.audio_augmentation import Augmentation, mix_up, resample
from lerac_experiments.data.crema_d import CREMA_D
from lerac_experiments.data.esc50 import ESC50
from lerac_experiments.data.examples import Batch
from lerac_experiments.data.source import DataSet, Request
from lerac_experiments.data.spectrograms import MelSpectrogram
from lerac_experiments.data.spoken_digits import SPOKEN_DIGITS


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


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
