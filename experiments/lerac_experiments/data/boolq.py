"""BoolQ (Clark et al., 2019): yes/no questions, each with a passage that has the answer."""

import json

import torch

from lerac_experiments.data.glue import DEVELOPMENT_NOTE
from lerac_experiments.data.hub import load_from_hub
from lerac_experiments.data.source import DataSet, Parts, Request
from lerac_experiments.data.stored import Stored, find_stored
from lerac_experiments.data.text import Texts, text_parts
from lerac_experiments.errors import ExperimentError

ANSWERS = ("no", "yes")

_PLACES = ("BoolQ", "boolq", "BoolQ.zip", "boolq.zip", "boolq-dev.zip")
_REPOSITORY = "google/boolq"
_PUBLISHED = 9_427, 3_270
_ADVICE = "put SuperGLUE's BoolQ.zip into the folder that LERAC_FAST_DATA names"

_TEST_SHARE = 0.2
"""Of the development part, where that is all there is."""


def _load(request: Request) -> Parts:
    files = find_stored(*_PLACES)
    if files is None:
        splits = load_from_hub(_REPOSITORY, None, _ADVICE)
        training, development = (
            Texts(split["question"], split["passage"], [ANSWERS[answer] for answer in split["answer"]])
            for split in (splits["train"], splits["validation"])
        )
        source = f"{_REPOSITORY} of the Hugging Face Hub"
        return text_parts(training, development, request, source, DEVELOPMENT_NOTE, _PUBLISHED)
    name = files.find("val.jsonl") or files.find("dev.jsonl")
    if name is None:
        raise ExperimentError(f"{files.place} holds neither val.jsonl nor dev.jsonl, one of which BoolQ has")
    development = _read(files, name)
    train_name = files.find("train.jsonl")
    if train_name is None:
        return _split_development(development, request, str(files.place / name))
    training = _read(files, train_name)
    return text_parts(training, development, request, str(files.place), DEVELOPMENT_NOTE, _PUBLISHED)


def _split_development(development: Texts, request: Request, source: str) -> Parts:
    order = torch.randperm(len(development), generator=torch.Generator().manual_seed(0))
    test = round(_TEST_SHARE * len(development))
    note = (
        f"not the official split, and not to be compared with published figures: of the {len(development):,} examples "
        f"of the official development part, {test:,} are to test with, and the others to train and validate with"
    )
    return text_parts(development.take(order[test:]), development.take(order[:test]), request, source, note, None)


def _read(files: Stored, name: str) -> Texts:
    questions, passages, labels = [], [], []
    path = files.place / name
    for number, line in enumerate(files.text(name).split("\n"), 1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except (ValueError, RecursionError) as error:  # RecursionError: of brackets within brackets
            raise ExperimentError(f"{path}, line {number} is no JSON: {error}") from error
        fields = example if isinstance(example, dict) else {}
        question, passage = fields.get("question"), fields.get("passage")
        answer = fields.get("answer", fields.get("label"))
        if not (isinstance(question, str) and isinstance(passage, str) and isinstance(answer, bool)):
            raise ExperimentError(
                f"{path}, line {number} must have the texts question and passage, and true or false as answer or label"
            )
        questions.append(question)
        passages.append(passage)
        labels.append(ANSWERS[answer])
    if not labels:
        raise ExperimentError(f"{path} holds no examples")
    return Texts(questions, passages, labels)


BOOLQ = DataSet("boolq", "BoolQ", "text", _load)
