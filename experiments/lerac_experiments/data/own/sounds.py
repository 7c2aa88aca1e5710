"""`sounds:DIR`: recordings in a folder for each class, or in such within train, validation and test; or in a list."""

import hashlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import ceil, gcd

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_experiments.data.audio import Recordings, SoundExamples
from lerac_experiments.data.audio_augmentation import mix_up
from lerac_experiments.data.media import ALL_SOUNDS, decode_sound, sound_rate
from lerac_experiments.data.own.faults import Fault, Faults
from lerac_experiments.data.own.latest import Latest
from lerac_experiments.data.own.listed import FileOptions, LabelledFiles, find_labelled, is_list, numbered
from lerac_experiments.data.own.places import digest
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.own.splits import divide
from lerac_experiments.data.source import Parts, Request, join_notes
from lerac_experiments.data.spectrograms import MelSpectrogram
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

HIGHEST_USUAL_RATE = 16_000
LONGEST_USUAL_SECONDS = 5.0
KEPT_BYTES = 1 << 29
"""Up to which recordings are kept in memory, so that each file is decoded once."""


@dataclass(frozen=True)
class Options(FileOptions):
    """Of recordings.

    Attributes:
        rate: in Hz, that all are resampled to; None, the commonest, at most 16,000.
        seconds: that all are cut off or filled up to; None, the longest, at most 5.
        hop: of spectrograms, in samples.
    """

    rate: int | None = None
    seconds: float | None = None
    hop: int = 128


class AnyRecordings(Recordings):
    """Recordings of any rate and number of channels, which are averaged, and resampled."""

    def padded(self, name: str) -> Tensor:
        """One, float32 [samples]. Raises ExperimentError naming a file that is damaged or empty."""
        path, content = self.files.place / name, self.files.read(name)
        rate = sound_rate(content, path)
        samples, _ = decode_sound(content, path, ceil(self.samples / self.sample_rate * rate))
        if len(samples) == 0 or not samples.isfinite().all():
            raise ExperimentError(f"{path} has {'no samples' if len(samples) == 0 else 'samples that are no numbers'}")
        waveform = _resampled(samples.mean(dim=1), rate, self.sample_rate)[: self.samples]
        return F.pad(waveform, (0, self.samples - len(waveform)))

    def read(self, indices: list[int]) -> Tensor:
        return torch.stack([self.padded(self.names[index]) for index in indices])


class OwnSounds(SoundExamples):
    """Recordings with names."""

    names: list[str]

    def told(self, index: int) -> str:
        return f"{self.names[index]}, {super().told(index)}"


def fingerprint(spec: Spec) -> str:
    """Of the files. Raises as `load`, but for recordings that cannot be read."""
    return digest(_files(spec, Faults(spec.text, skip=True)).files, is_list)


def load(spec: Spec, request: Request) -> Parts:
    """Reads all recordings once, so that damaged ones are found before anything is trained.

    Raises:
        Unavailable: there is no such folder or list.
        FaultyData: some recordings cannot be read.
        ExperimentError: there are no recordings, or too few, or of one class.
    """
    options = spec.options(Options)
    faults = Faults(spec.text, options.skip_damaged)
    found = _files(spec, faults)
    seconds = request.seconds or options.seconds
    key = found.folder, options.rate, seconds, digest(found.files, is_list)
    read = _LATEST.of(key, lambda: _read(found, options.rate, seconds))
    faults.found += read.damaged
    if not read.good:
        raise ExperimentError(f"{found.source}: none of {len(found.names):,} recordings can be read{faults.first}")
    note, found = faults.settle(), found.take(read.good)
    labels, classes = numbered(found.labels, found.source)
    division = divide(found.parts, labels, request, found.source, classes)
    spectrogram = MelSpectrogram(read.recordings.sample_rate, options.hop)
    waveforms = read.recordings if read.waveforms is None else read.waveforms

    def examples(chosen: Tensor, augment_seed: int | None = None) -> OwnSounds:
        made = OwnSounds(waveforms, chosen, labels[chosen], spectrogram, augment_seed)
        made.names = [found.names[number] for number in chosen.tolist()]
        return made

    return Parts(
        "classification",
        len(classes),
        examples(division.train, request.augment_seed),
        examples(division.validation),
        examples(division.test),
        source=spec.place,
        note=join_notes(division.note, division.repeated(read.contents), read.note, note, found.left_out_note),
        mix=partial(mix_up, classes=len(classes)),
        class_names=tuple(classes),
        left_out={**found.left_out, **faults.named},
    )


def _files(spec: Spec, faults: Faults) -> LabelledFiles:
    return find_labelled(spec.place, ALL_SOUNDS, spec.options(Options), faults)


@dataclass(frozen=True)
class _Read:
    """The recordings that can be read, of all parts; and what became of the others.

    Attributes:
        good: their numbers among all.
        waveforms: float32 [at least N, samples]; None, where they take too much memory.
        contents: hashes of them.
        note: their length and rate.
    """

    recordings: AnyRecordings
    good: list[int]
    waveforms: Tensor | None
    contents: list[bytes]
    note: str
    damaged: list[Fault]


_LATEST: Latest[_Read] = Latest()


def _read(found: LabelledFiles, rate: int | None, seconds: float | None) -> _Read:
    rates, lengths = _headers(found)
    rate = rate or min(HIGHEST_USUAL_RATE, Counter(rates).most_common(1)[0][0] if rates else HIGHEST_USUAL_RATE)
    seconds = seconds or min(LONGEST_USUAL_SECONDS, max(lengths, default=1.0))
    samples = max(1, round(seconds * rate))
    files = Stored(found.folder)
    recordings = AnyRecordings(files, found.names, rate, samples)
    keep = 4 * samples * len(found.names) <= KEPT_BYTES
    kept = torch.empty(len(found.names), samples) if keep else None
    good: list[int] = []
    contents, damaged = [], []
    for number, name in enumerate(found.names):
        try:
            waveform = recordings.padded(name)
        except ExperimentError as error:
            damaged.append(Fault("damaged recordings", str(error)))
            continue
        if kept is not None:
            kept[len(good)] = waveform
        good.append(number)
        contents.append(hashlib.sha256(waveform.numpy().tobytes()).digest())
    cut = sum(length > seconds + 1 / rate for length in lengths)
    note = f"{seconds:.3g} s at {rate} Hz" + (f", to which {cut:,} longer recordings are cut off" if cut else "")
    readable = AnyRecordings(files, [found.names[number] for number in good], rate, samples)
    return _Read(readable, good, kept, contents, note, damaged)


def _headers(found: LabelledFiles) -> tuple[list[int], list[float]]:
    """The rates, and the lengths in seconds, of the recordings whose headers can be read: damaged ones are told of when
    they are decoded."""
    import soundfile  # It needs a library of the system, and only sound needs it.

    rates, lengths = [], []
    for name in found.names:
        with suppress(soundfile.SoundFileError, OSError):
            info = soundfile.info(found.folder / name)
            rates.append(info.samplerate)
            lengths.append(info.frames / info.samplerate)
    return rates, lengths


def _resampled(waveform: Tensor, rate: int, to: int) -> Tensor:
    """A waveform at another rate, float32, without what the new rate has no room for."""
    if rate == to:
        return waveform
    from scipy.signal import resample_poly  # takes long to import

    shared = gcd(rate, to)
    return torch.from_numpy(
        np.ascontiguousarray(resample_poly(waveform.numpy(), to // shared, rate // shared), dtype=np.float32)
    )
