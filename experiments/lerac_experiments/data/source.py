"""What a data set of the experiments is: how it is asked for, and what it gives."""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.errors import ExperimentError

Kind = Literal["image", "text", "audio", "detection", "table"]
Task = Literal["classification", "regression", "detection"]

VALIDATION_SHARE = 0.1
"""Of the training examples, set aside for validation (Croitoru et al., section 4.1). It never takes test examples."""


FEWEST = 10
"""Examples that a share leaves of a part, so that it can be divided."""

_USUAL_FOLDER = "~/.cache/lerac_fast"


@dataclass(frozen=True)
class TextEncoding:
    """How a model reads text (Croitoru et al., section 4.2). All words are lower-cased.

    `words`: numbers from a vocabulary of the training part. `wordpiece`: BERT's pieces, with [CLS] at the start and
    [SEP] after each sentence; from the vocabulary in `folder` (vocab.txt), or learned from the training part.
    """

    unit: Literal["words", "wordpiece"]
    max_length: int
    """In tokens; longer texts are cut off."""
    folder: Path | None = None


@dataclass(frozen=True)
class Request:
    """What is asked of a data set."""

    split_seed: int = 0
    """Decides which training examples are set aside for validation, and which are drawn where fewer are asked for."""
    augment_seed: int | None = 0
    """Decides, with the epoch and the number of an example, how it is augmented, in data sets that the paper augments
    (speech); None, not at all."""
    image_seed: int | None = None
    """Decides likewise how training images are cropped and mirrored; None, not at all."""
    fold: int = 0
    """Which fold is the test part, in data sets that are divided into folds."""
    train_examples: int | None = None
    """How many to draw of those to train and validate with; None, all."""
    test_examples: int | None = None
    """How many to draw of the test part; None, all."""
    share: float = 1.0
    """Which share of the examples to draw, of training and test part alike;"""
    fewest: int = FEWEST
    """but so many of each at least, if there are."""
    image_size: int | None = None
    """Height and width of images that come in various sizes; None, the usual one of the data set."""
    seconds: float | None = None
    """How much of each recording to take, from its start; None, the usual length of the data set."""
    encoding: TextEncoding | None = None
    """Of text."""
    by_speaker: bool = False
    """Whether those who speak in one part speak in no other, in data sets that have no official split."""

    def to_train(self, count: int) -> int:
        """How many are drawn of so many examples to train and validate with."""
        return min(self._shared(count), count if self.train_examples is None else self.train_examples)

    def to_test(self, count: int) -> int:
        """How many are drawn of so many test examples."""
        return min(self._shared(count), count if self.test_examples is None else self.test_examples)

    def samples(self, usual: int, rate: int) -> int:
        """How many samples of a recording are taken, of so many a second."""
        return usual if self.seconds is None else round(self.seconds * rate)

    def _shared(self, count: int) -> int:
        return min(count, max(self.fewest, round(self.share * count)))


@dataclass(frozen=True)
class Parts:
    """A data set, split and preprocessed."""

    task: Task
    classes: int
    """Of a classification or, with 0 for the background, of detection; 1 for regression."""
    train: Examples
    validation: Examples
    test: Examples
    source: str
    """Where it came from, for the record."""
    note: str | None = None
    """What a reader of the results must know, such as that it is not the official split."""
    vocabulary: int | None = None
    """Of text: the number of tokens that there are; 0 is padding."""
    mix: Callable[[Batch, torch.Generator], Batch] | None = None
    """Augmentation of training batches as a whole, such as mix-up."""
    normalisation: tuple[torch.Tensor, torch.Tensor] | None = None
    """Of images: the mean and the deviation that they were normalised by, to be broadcast to a batch, of shades from 0
    to 1. None, it is not known."""
    class_names: tuple[str, ...] = ()
    """Those of the classes, without the background of detection; none, if they have none, or it is not known."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Of data of one's own: what is not among the examples, and why."""

    @property
    def provenance(self) -> dict[str, str | None]:
        """Source and note as records have them: the same wherever the data folder is."""
        return {"source": self.source.replace(str(data_folder()), "$LERAC_FAST_DATA"), "note": self.note}


@dataclass(frozen=True)
class DataSet:
    """A data set that can be asked for.

    Attributes:
        load: raises Unavailable, or ExperimentError naming the file if one is damaged or of another format.
    """

    name: str
    """As on the command line."""
    title: str
    """As in tables."""
    kind: Kind
    load: Callable[[Request], Parts]
    regression: bool = False
    """Whether values are predicted: its `Parts.task`, known before it is loaded."""
    by_speaker: bool = False
    """Whether it can be divided so."""
    fingerprint: Callable[[], str] | None = None
    """Of data of one's own: hexadecimal digits that its content decides. Raises as `load`."""

    @property
    def mixes(self) -> bool:
        """Whether training batches are mixed where the data is augmented, by its `Parts.mix`: speech is, as in the
        LeRaC paper."""
        return self.kind == "audio"


def join_notes(*notes: str | None) -> str | None:
    """One note of several, some of which may be None."""
    return "; ".join(note for note in notes if note is not None) or None


def size_note(published: tuple[int, int], train: int, test: int) -> str | None:
    """A note if the numbers of examples to train and to test with are not those of the published data set."""
    if (train, test) == published:
        return None
    return f"{train:,} training and {test:,} test examples, where {published[0]:,} and {published[1]:,} were published"


def data_folder() -> Path:
    """Where data is looked for: the environment variable LERAC_FAST_DATA, or else ~/.cache/lerac_fast.

    Raises:
        ExperimentError: there is no home directory, which ~ stands for.
    """
    return _at_home(os.environ.get("LERAC_FAST_DATA") or _USUAL_FOLDER)


def _at_home(folder: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        raise ExperimentError(
            f"{folder}: there is no home directory. Set HOME, or LERAC_FAST_DATA to a folder for data"
        ) from None


def cache_folder() -> Path:
    """Where downloads and unpacked archives go: `data_folder()`; ~/.cache/lerac_fast if that cannot be written to."""
    folder = data_folder()
    return folder if not folder.exists() or os.access(folder, os.W_OK) else _at_home(_USUAL_FOLDER)


def draw(count: int, request: Request, groups: Sequence[Hashable] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the examples to train with and to validate with, of `count` training examples: int64, disjoint.

    Args:
        groups: what each example was made from, where some are of one source: those to validate with are of others than
            those to train with, so that there may be some more.
    """
    generator = torch.Generator().manual_seed(request.split_seed)
    drawn = torch.randperm(count, generator=generator)[: request.to_train(count)]
    held_out = max(1, round(VALIDATION_SHARE * len(drawn)))
    of = ""
    if groups is not None:
        own = [groups[index] for index in drawn.tolist()]
        drawn, held_out = _grouped(drawn, own, held_out)
        of = f" of {len(set(own))} sources"
    if len(drawn) <= held_out:
        raise ExperimentError(f"{count} training examples{of}, of which {len(drawn)} are drawn, are too few to split")
    return drawn[held_out:], drawn[:held_out]


def _grouped(drawn: torch.Tensor, groups: Sequence[Hashable], wanted: int) -> tuple[torch.Tensor, int]:
    """The examples with the first whole groups in front, in their order, and how many these are: `wanted` at least."""
    sizes = Counter(groups)
    first, size = set(), 0
    for group in sizes:  # in the order of their first examples
        if size >= wanted:
            break
        first.add(group)
        size += sizes[group]
    is_first = torch.tensor([group in first for group in groups])
    return torch.cat([drawn[is_first], drawn[~is_first]]), size


def draw_test(count: int, request: Request) -> torch.Tensor:
    """The numbers of the test examples, of `count`: int64."""
    wanted = request.to_test(count)
    if wanted >= count:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(request.split_seed)
    return torch.randperm(count, generator=generator)[:wanted].sort().values
