"""Recordings, and the spectrograms of a batch of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_experiments.data.audio_augmentation import Augmentation, mix_up
from lerac_experiments.data.examples import Examples
from lerac_experiments.data.media import decode_sound, read_each
from lerac_experiments.data.source import Parts, Request
from lerac_experiments.data.spectrograms import MelSpectrogram
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

# So many samples are transformed at once: with all of a batch the memory takes longer than the arithmetic.
_SAMPLES_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Recordings:
    """Files of one channel, each cut off, or filled up with zeros at its end, to the same number of samples.

    Attributes:
        names: of the files in `files`.
        sample_rate: that they must have, in Hz.
    """

    files: Stored
    names: list[str]
    sample_rate: int
    samples: int

    def read(self, indices: list[int]) -> Tensor:
        """Those of these numbers, float32 [B, samples], from -1 to 1.

        Raises:
            ExperimentError: a file is damaged, or of another format. The message names it.
        """
        return torch.stack(read_each(lambda index: self._read(self.names[index]), indices))

    def _read(self, name: str) -> Tensor:
        path = self.files.place / name
        waveform, sample_rate = decode_sound(self.files.read(name), path, self.samples)
        if sample_rate != self.sample_rate or waveform.shape[1] != 1 or len(waveform) == 0:
            raise ExperimentError(
                f"{path} has {len(waveform)} samples of {waveform.shape[1]} channels at {sample_rate} Hz; expected are "
                f"some, of 1 channel at {self.sample_rate} Hz"
            )
        return F.pad(waveform[:, 0], (0, self.samples - len(waveform)))


def sound_parts(
    recordings: Recordings,
    labels: Tensor,
    drawn: Sequence[Tensor],
    request: Request,
    *,
    hop: int,
    classes: int,
    note: str | None,
) -> Parts:
    """A data set of recordings, which are mixed in training.

    Args:
        labels: of all recordings, int64 [N].
        drawn: the numbers of those to train, to validate and to test with.
        hop: of the spectrograms, in samples.
    """
    spectrogram = MelSpectrogram(recordings.sample_rate, hop)
    train, validation, test = (
        SoundExamples(recordings, chosen, labels[chosen], spectrogram, seed)
        for chosen, seed in zip(drawn, (request.augment_seed, None, None), strict=True)
    )
    mix = partial(mix_up, classes=classes)
    return Parts("classification", classes, train, validation, test, str(recordings.files.place), note, mix=mix)


def count_note(what: str, count: int, published: int) -> str | None:
    """A note if there are more or fewer recordings than were published."""
    return None if count == published else f"{count:,} {what}, where {published:,} were published"


class SoundExamples(Examples):
    """Spectrograms [B, 1, 128, T] of recordings, made when they are asked for.

    Args:
        recordings: files that are decoded each time, or waveforms [M, samples] in memory.
        chosen: which of them are the examples, int64 [N].
        labels: the classes of the examples, int64 [N].
        augment_seed: how they are augmented; None, not at all.
    """

    def __init__(
        self,
        recordings: Recordings | Tensor,
        chosen: Tensor,
        labels: Tensor,
        spectrogram: MelSpectrogram,
        augment_seed: int | None = None,
    ) -> None:
        self._recordings = recordings
        self._chosen = chosen
        self._spectrogram = spectrogram
        self._augment_seed = augment_seed
        self.labels: Tensor = labels

    def inputs_of(self, indices: list[int]) -> Tensor:
        at_once = max(1, _SAMPLES_AT_ONCE // self._samples)
        return torch.cat([self._pictures(indices[at : at + at_once]) for at in range(0, len(indices), at_once)])

    @property
    def _samples(self) -> int:
        return self._recordings.samples if isinstance(self._recordings, Recordings) else self._recordings.shape[1]

    def _pictures(self, indices: list[int]) -> Tensor:
        chosen = self._chosen[indices]
        waveforms = (
            self._recordings.read(chosen.tolist())
            if isinstance(self._recordings, Recordings)
            else self._recordings[chosen]
        )
        if self._augment_seed is None:
            return self._spectrogram(waveforms)
        augmentation = Augmentation(self._augment_seed, self.epoch, indices)
        return augmentation.spectrograms(self._spectrogram(augmentation.waveforms(waveforms)))
