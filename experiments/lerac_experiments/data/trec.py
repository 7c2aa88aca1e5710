"""TREC's questions (Li and Roth, 2002): 5,952 of them, and of which of six kinds the answer is."""

from lerac_experiments.data.source import DataSet, Parts, Request, data_folder
from lerac_experiments.data.stored import Stored, find_stored
from lerac_experiments.data.text import Texts, text_parts
from lerac_experiments.errors import ExperimentError, Unavailable

_PLACES = ("TREC", "trec", "TREC.zip", "trec.zip")
_TRAIN, _TEST = "train_5500.label", "TREC_10.label"
_PUBLISHED = 5_452, 500


def _load(request: Request) -> Parts:
    files = find_stored(*_PLACES)
    if files is None:
        raise Unavailable(
            f"there is no TREC in {data_folder()}, which LERAC_FAST_DATA names: put {_TRAIN} and {_TEST} of "
            "https://cogcomp.seas.upenn.edu/Data/QA/QC there, in a folder TREC or as TREC.zip"
        )
    training, test = _read(files, _TRAIN), _read(files, _TEST)
    return text_parts(training, test, request, str(files.place), "the six kinds, not the fine ones", _PUBLISHED)


def _read(files: Stored, name: str) -> Texts:
    member = files.require(name, "TREC")
    return read_labelled(files.text(member, otherwise="latin-1"), str(files.place / member))


def read_labelled(text: str, source: str) -> Texts:
    """Texts with their classes, one a line: `LABEL:fine text`, where the fine label and its colon may be missing.

    Raises:
        ExperimentError: a line has no label or no text, or there are none. The message names `source` and the line.
    """
    texts, labels = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        label, _, question = line.strip().partition(" ")
        kind = label.partition(":")[0]
        if not (kind and question.strip()):
            raise ExperimentError(
                f"{source}, line {number} is {line[:50]!r}, and must be LABEL:fine, a space, and a text"
            )
        texts.append(question.strip())
        labels.append(kind)
    if not texts:
        raise ExperimentError(f"{source} holds no examples")
    return Texts(texts, None, labels)


TREC = DataSet("trec", "TREC", "text", _load)
