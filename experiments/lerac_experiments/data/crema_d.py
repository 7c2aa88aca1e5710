"""CREMA-D (Cao et al., 2014): 7,442 clips of 91 actors who say sentences in one of six emotions; the sound alone."""

import re
from pathlib import PurePosixPath

import torch
from torch import Tensor

from lerac_experiments.data.audio import Recordings, count_note, sound_parts
from lerac_experiments.data.media import SOUNDS, left_out_note
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder, draw_test, join_notes
from lerac_experiments.data.stored import Stored, find_stored
from lerac_experiments.errors import ExperimentError, Unavailable

SAMPLE_RATE = 16_000
SAMPLES = 4 * SAMPLE_RATE
HOP = 64
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
SHARES = 0.7, 0.15
"""To train and to validate with; the others are to test with."""

_PLACES = ("CREMA-D", "CREMA-D-master", "AudioWAV", "CREMA-D.zip", "AudioWAV.zip", "crema-d.zip")
_PUBLISHED = 7442
# Actor, sentence, emotion and its level, which is a single X in the name of one file.
_NAME = re.compile(rf"(\d{{4}})_[A-Z]{{3}}_({'|'.join(EMOTIONS)})_[A-Z]{{1,2}}")
_SHARES_NOTE = "70% to train, 15% to validate and 15% to test with: which ones the paper used is not published"
_CLIPS_NOTE = f"clips are divided at random, so that all parts have the same speakers, {_SHARES_NOTE}"
_SPEAKERS_NOTE = f"speakers are divided at random, so that no part has a speaker of another, {_SHARES_NOTE}"


def _load(request: Request) -> Parts:
    files = find_stored(*_PLACES)
    if files is None:
        raise Unavailable(
            f"there is no CREMA-D in {data_folder()}, which LERAC_FAST_DATA names: put the folder AudioWAV of "
            f"https://github.com/CheyneyComputerScience/CREMA-D there, as CREMA-D/AudioWAV/1001_DFA_ANG_XX.wav and "
            "so on, or as CREMA-D.zip; it cannot be downloaded from here, for it is kept in Git LFS"
        )
    # A folder called AudioWAV itself is looked into as well.
    listing = files.listing.under("AudioWAV").only(SOUNDS)
    if not listing.names:
        listing = files.listing.only(SOUNDS)
    names = listing.names
    labels, speakers = _read_names(files, names)
    drawn = _split(speakers if request.by_speaker else torch.arange(len(names)), request)
    if not all(map(len, drawn)):
        raise ExperimentError(
            f"{files.place} holds {len(names)} clips of CREMA-D, of which {request.train_examples or 'all'} are drawn: "
            "too few to split"
        )

    recordings = Recordings(files, names, SAMPLE_RATE, request.samples(SAMPLES, SAMPLE_RATE))
    division = _SPEAKERS_NOTE if request.by_speaker else _CLIPS_NOTE
    note = join_notes(division, count_note("clips", len(names), _PUBLISHED), left_out_note(listing))
    return sound_parts(recordings, labels, drawn, request, hop=HOP, classes=len(EMOTIONS), note=note)


def _read_names(files: Stored, names: list[str]) -> tuple[Tensor, Tensor]:
    """The emotions and the speakers, int64 [N]."""
    labels, speakers = [], []
    for name in names:
        match = _NAME.fullmatch(PurePosixPath(name).stem)
        if match is None:
            raise ExperimentError(f"{files.place / name} is not named as 1001_DFA_ANG_XX.wav")
        speakers.append(int(match[1]))
        labels.append(EMOTIONS.index(match[2]))
    return torch.tensor(labels, dtype=torch.int64), torch.tensor(speakers, dtype=torch.int64)


def _split(groups: Tensor, request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of the clips of each part. The division is the same for all seeds; which are drawn is not.

    Args:
        groups: those of one number, int64 [N], go into one part.
    """
    numbers = groups.unique()
    order = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(0))]
    bounds = [round(SHARES[0] * len(order)), round(sum(SHARES) * len(order))]
    train, validation, test = (_clips_of(groups, part) for part in order.tensor_split(bounds))
    wanted = request.to_train(len(train) + len(validation))
    if wanted < len(train) + len(validation):
        to_validate = max(1, round(wanted * SHARES[1] / sum(SHARES)))
        generator = torch.Generator().manual_seed(request.split_seed)
        train = train[torch.randperm(len(train), generator=generator)[: max(0, wanted - to_validate)]]
        validation = validation[torch.randperm(len(validation), generator=generator)[:to_validate]]
    return train, validation, test[draw_test(len(test), request)]


def _clips_of(groups: Tensor, part: Tensor) -> Tensor:
    """The numbers of the clips of these groups, in the order of these."""
    return (part.unsqueeze(1) == groups).nonzero()[:, 1]


CREMA_D = DataSet("crema-d", "CREMA-D", "audio", _load, by_speaker=True)
