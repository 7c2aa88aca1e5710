"""ESC-50 (Piczak, 2015): 2,000 environmental sounds of five seconds in 50 classes and five folds."""

import csv
import io

import torch
from torch import Tensor

from lerac_experiments.data.audio import Recordings, count_note, sound_parts
from lerac_experiments.data.source import DataSet, Parts, Request, draw, draw_test, join_notes
from lerac_experiments.data.stored import Stored, download_archive, find_stored
from lerac_experiments.errors import ExperimentError

SAMPLE_RATE = 44_100
SAMPLES = 5 * SAMPLE_RATE
HOP = 128
CLASSES = 50
FOLDS = 5

_PLACES = ("ESC-50-master", "ESC-50", "ESC-50-master.zip", "ESC-50.zip", "esc50.zip")
_REVISION = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"  # of the branch master
_URL = f"https://github.com/karolpiczak/ESC-50/archive/{_REVISION}.zip"
_CHECKSUM = "sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f"
_ADVICE = "put ESC-50-master.zip, or what it unpacks to, into the folder that LERAC_FAST_DATA names"
_PUBLISHED = 2000
_NOTE = "validated on cuts of other recordings (src_file) than are trained with"


def _load(request: Request) -> Parts:
    if request.fold not in range(FOLDS):
        raise ExperimentError(f"ESC-50 has the folds 0 to {FOLDS - 1}, and no fold {request.fold}")
    files = find_stored(*_PLACES) or download_archive(_URL, "ESC-50-master.zip", _CHECKSUM, _ADVICE)
    names, labels, folds, sources = _read_table(files)
    is_test = folds == request.fold + 1
    training, test = (~is_test).nonzero().flatten(), is_test.nonzero().flatten()
    if len(test) == 0:
        raise ExperimentError(f"{files.place} holds no recordings of the fold {request.fold + 1}")
    groups = [sources[index] for index in training.tolist()]
    train, validation = (training[drawn] for drawn in draw(len(training), request, groups))
    test = test[draw_test(len(test), request)]

    recordings = Recordings(files, names, SAMPLE_RATE, request.samples(SAMPLES, SAMPLE_RATE))
    note = join_notes(_NOTE, count_note("recordings", len(names), _PUBLISHED))
    return sound_parts(recordings, labels, (train, validation, test), request, hop=HOP, classes=CLASSES, note=note)


def _read_table(files: Stored) -> tuple[list[str], Tensor, Tensor, list[str]]:
    """The names of the recordings; their classes, and their folds from 1, int64 [N]; and what they were cut out of."""
    table = files.require("meta/esc50.csv", "ESC-50")
    path = files.place / table
    audio = table.removesuffix("meta/esc50.csv") + "audio/"
    present = set(files.listing.names)
    names, labels, folds, sources = [], [], [], []
    try:
        for row in csv.DictReader(io.StringIO(files.text(table), newline="")):
            name, label, fold = audio + row["filename"], int(row["target"]), int(row["fold"])
            if not (0 <= label < CLASSES and 1 <= fold <= FOLDS):
                raise ExperimentError(f"{path}: {row['filename']} has the class {label} and the fold {fold}")
            if name not in present:
                raise ExperimentError(f"{files.place / name} is missing, which {path} lists")
            names.append(name)
            labels.append(label)
            folds.append(fold)
            sources.append(row["src_file"])
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ExperimentError(
            f"{path}, line {len(names) + 2}: no filename, fold, target and src_file are found there ({error})"
        ) from error
    if len(set(names)) < len(names):
        raise ExperimentError(f"{path} lists a recording twice")
    return names, torch.tensor(labels, dtype=torch.int64), torch.tensor(folds, dtype=torch.int64), sources


ESC50 = DataSet("esc50", "ESC-50", "audio", _load)
