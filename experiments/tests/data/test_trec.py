"""TREC in its official format, and other texts that come without a second one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from experiments.tests.data.loading import write_folder, write_zip
from experiments.tests.data.test_text import PIECES, SENTENCES, WORDS, check_parts, inputs_of, load
from lerac_experiments.data.source import TextEncoding
from lerac_experiments.data.text import TextExamples
from lerac_experiments.data.tokens import WordPieces, Words
from lerac_experiments.data.trec import TREC
from lerac_experiments.errors import ExperimentError, Unavailable


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


def trec(**changed: bytes) -> dict[str, bytes]:
    """The files of TREC, in Latin-1: the kinds of the answers in turn."""
    kinds = ("DESC:manner", "ENTY:cremat", "ABBR:exp", "HUM:ind", "NUM:date", "LOC:city")
    lines = [f"{kinds[number % 6]} Who is José number {number} : the {number % 4} th ?\n" for number in range(60)]
    parts = {"train_5500": "".join(lines), "TREC_10": "".join(lines[:12])}
    files = {name: content.encode("latin-1") for name, content in parts.items()}
    return {f"TREC/{name}.label": content for name, content in {**files, **changed}.items()}


@pytest.mark.parametrize("encoding", [WORDS, PIECES], ids=["words", "pieces"])
@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_trec_has_six_classes(data_folder: Path, write: Callable[..., None], encoding: TextEncoding) -> None:
    write(data_folder / ("TREC.zip" if write is write_zip else "."), trec())
    parts = load(TREC, encoding)
    check_parts(parts, train=54, validation=6, test=12, classes=6)
    assert parts.test.labels is not None
    # ABBR, DESC, ENTY, HUM, LOC, NUM
    assert parts.test.labels.tolist() == [1, 2, 0, 3, 5, 4] * 2
    assert "60 training and 12 test examples, where 5,452 and 500 were published" in str(parts.note)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_trec_in_other_encodings(data_folder: Path, encoding: str, end: str) -> None:
    write_zip(data_folder / "TREC.zip", trec())
    expected = inputs_of(load(TREC).test)
    files = {name: content.decode("latin-1") for name, content in trec().items()}
    write_zip(data_folder / "TREC.zip", {n: text.replace("\n", end).encode(encoding) for n, text in files.items()})
    assert torch.equal(inputs_of(load(TREC).test)["input_ids"], expected["input_ids"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"TREC_10": b"DESC:def What ?\nHUM:ind\n"}, r"TREC_10\.label, line 2 is 'HUM:ind', and must be LABEL:fine"),
        ({"TREC_10": b":def What ?\n"}, "line 1 is ':def What"),
        ({"TREC_10": b"\n"}, "holds no examples"),
        ({"TREC_10": b"WHY:def What ?\n"}, r"TREC\.zip: .* test examples.* of the class 'WHY'"),
        ({"train_5500": b"DESC:def What ?\n" * 30}, "all training examples are of one class, 'DESC'"),
        ({"train_5500": "DESC What ?\n".encode("utf-16")}, "no text in UTF-8"),
    ],
    ids=["no text", "no label", "empty", "another class", "one class", "utf-16"],
)
def test_damaged_questions_of_trec_are_named(data_folder: Path, changed: dict[str, bytes], message: str) -> None:
    write_zip(data_folder / "TREC.zip", trec(**changed))
    with pytest.raises(ExperimentError, match=message) as caught:
        load(TREC)
    assert str(data_folder / "TREC.zip") in str(caught.value)


def test_trec_is_asked_for(data_folder: Path) -> None:
    with pytest.raises(Unavailable, match=rf"no TREC in {data_folder}.*put train_5500\.label and TREC_10\.label"):
        load(TREC)
    write_zip(data_folder / "TREC.zip", {"train_5500.label": b"DESC:def What ?"})
    with pytest.raises(ExperimentError, match=r"holds no TREC_10\.label"):
        load(TREC)


def test_single_texts_are_encoded_as_berts(tmp_path: Path) -> None:
    from transformers.models.bert import BertTokenizerFast  # type: ignore[attr-defined]

    texts = [first for first, _ in SENTENCES]
    learned = WordPieces.learn(texts, max_length=12)
    vocabulary = learned._tokenizer.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=lambda piece: vocabulary[piece])) + "\n")
    peer = BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=True)
    for some in (texts, ["", "river"]):
        expected = peer(some, truncation=True, max_length=12, padding=True, return_tensors="pt")
        examples = TextExamples(learned(some, None), torch.zeros(len(some), dtype=torch.int64), True, learned.decode)
        inputs = {name: values.tolist() for name, values in inputs_of(examples).items()}
        assert inputs == {name: values.tolist() for name, values in expected.items()}


def test_single_texts_of_words() -> None:
    words = Words(["sand and sea", "sand"], max_length=3)
    assert words(["Sand sea river and", "", "sea"], None) == [([3, 5, 1], 3), ([1], 1), ([5], 1)]
