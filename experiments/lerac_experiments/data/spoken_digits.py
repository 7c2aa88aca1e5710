"""The Free Spoken Digit Dataset (Jackson et al.): 3,000 recordings of six speakers at 8 kHz.

It is not among those of the paper; clips of one second and a hop of 64 samples are our choice.
"""

import re
from dataclasses import replace
from pathlib import PurePosixPath

import torch
from torch import Tensor

from lerac_experiments.data.audio import Recordings, SoundExamples, count_note, sound_parts
from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.media import SOUNDS, left_out_note
from lerac_experiments.data.source import DataSet, Parts, Request, draw, draw_test, join_notes
from lerac_experiments.data.spectrograms import MelSpectrogram
from lerac_experiments.data.stored import Stored, download_archive, find_stored
from lerac_experiments.errors import ExperimentError

SAMPLE_RATE = 8000
SAMPLES = SAMPLE_RATE
HOP = 64

_RELEASE = "free-spoken-digit-dataset-1.0.10"
_PLACES = (
    "fsdd.zip", "free-spoken-digit-dataset", _RELEASE, f"{_RELEASE}.zip", "free-spoken-digit-dataset-master",
)  # fmt: skip
_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip"
_ADVICE = "put it as fsdd.zip, or unpacked, into the folder that LERAC_FAST_DATA names"
_PUBLISHED = 3000
_NAME = re.compile(r"(\d)_([a-z]+)_(\d+)")
_TEST_NUMBERS = range(5)  # the official ones of each digit and speaker


def _load(request: Request) -> Parts:
    # GitHub packs the archive when it is asked for; no checksum of it is published.
    files = find_stored(*_PLACES) or download_archive(_URL, f"{_RELEASE}.zip", None, _ADVICE)
    listing = files.listing.under("recordings").only(SOUNDS)
    names = listing.names
    digits, is_test = _read_names(files, names)
    training, test = (~is_test).nonzero().flatten(), is_test.nonzero().flatten()
    if len(test) == 0:
        raise ExperimentError(f"{files.place} holds no recordings to test with, which are numbered 0 to 4")
    train, validation = (training[drawn] for drawn in draw(len(training), request))
    test = test[draw_test(len(test), request)]

    recordings = Recordings(files, names, SAMPLE_RATE, request.samples(SAMPLES, SAMPLE_RATE))
    note = join_notes(count_note("recordings", len(names), _PUBLISHED), left_out_note(listing))
    parts = sound_parts(recordings, digits, (train, validation, test), request, hop=HOP, classes=10, note=note)
    # All of it fits into memory.
    waveforms, spectrogram = recordings.read(train.tolist()), MelSpectrogram(SAMPLE_RATE, HOP)
    return replace(
        parts,
        train=SoundExamples(waveforms, torch.arange(len(train)), digits[train], spectrogram, request.augment_seed),
        validation=_still(recordings, validation, digits[validation], spectrogram),
        test=_still(recordings, test, digits[test], spectrogram),
    )


def _still(recordings: Recordings, chosen: Tensor, labels: Tensor, spectrogram: MelSpectrogram) -> TensorExamples:
    pictures = [spectrogram(recordings.read(some)) for some in map(Tensor.tolist, chosen.split(32))]
    return TensorExamples(torch.cat(pictures), labels)


def _read_names(files: Stored, names: list[str]) -> tuple[Tensor, Tensor]:
    """The digits, int64 [N], and which are to test with, bool [N]."""
    matches = []
    for name in names:
        match = _NAME.fullmatch(PurePosixPath(name).stem)
        if match is None:
            raise ExperimentError(f"{files.place / name} is not named as {{digit}}_{{speaker}}_{{number}}.wav")
        matches.append(match)
    digits = torch.tensor([int(match[1]) for match in matches], dtype=torch.int64)
    return digits, torch.tensor([int(match[3]) in _TEST_NUMBERS for match in matches], dtype=torch.bool)


SPOKEN_DIGITS = DataSet("spoken-digits", "spoken digits", "audio", _load)
