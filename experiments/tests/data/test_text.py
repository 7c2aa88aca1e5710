"""RTE, QNLI and BoolQ in their official formats, and their encodings."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from experiments.tests.data.loading import batches, write_folder, write_zip
from lerac_experiments.data import hub
from lerac_experiments.data.boolq import BOOLQ
from lerac_experiments.data.examples import Examples
from lerac_experiments.data.glue import QNLI, RTE
from lerac_experiments.data.source import DataSet, Parts, Request, TextEncoding
from lerac_experiments.data.text import TextExamples
from lerac_experiments.data.tokens import WordPieces, Words
from lerac_experiments.errors import ExperimentError, Unavailable

WORDS = TextEncoding("words", 200)
PIECES = TextEncoding("wordpiece", 512)
SENTENCES = [
    ('The museum, "Tate Modern", opened in London in 2000.', "Tate Modern opened in 2000."),
    ("Rivers carry sand to the sea.", "Sand is carried by rivers."),
    ("The bridge was closed after the flood.", "The bridge is made of steel."),
    ("She won the race in under ten minutes.", "The race was won by a woman."),
    ("Prices of wheat rose by a third last year.", "Wheat became cheaper."),
    ("A committee of nine members elects the president.", "Nine people elect the president, and so on, every year."),
]


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


def tsv(columns: str, numbers: range, header: bool = True) -> bytes:
    """Lines of GLUE's format. The sentences of odd numbers do not follow."""
    rows = [f"index\t{columns}\tlabel"] if header else []
    for number in numbers:
        first, second = SENTENCES[number % len(SENTENCES)]
        rows.append(f"{number}\t{first}\t{second}\t{'not_' if number % 2 else ''}entailment")
    return ("\n".join(rows) + "\n").encode()


def rte(**changed: bytes) -> dict[str, bytes]:
    """The files of RTE, by their names."""
    parts = {"train": tsv("sentence1\tsentence2", range(20)), "dev": tsv("sentence1\tsentence2", range(6))}
    return {f"RTE/{name}.tsv": content for name, content in {**parts, **changed}.items()}


def jsonl(numbers: range, answer: str) -> bytes:
    """Lines of BoolQ's format. The answer is yes for even numbers."""
    lines = []
    for number in numbers:
        passage, question = SENTENCES[number % len(SENTENCES)]
        lines.append(json.dumps({"question": question.lower(), "passage": passage, answer: number % 2 == 0}))
    return "\n".join(lines).encode()


def load(data: DataSet, encoding: TextEncoding | None = WORDS, **asked: int) -> Parts:
    return data.load(Request(encoding=encoding, **asked))  # type: ignore[arg-type]


def inputs_of(examples: Examples) -> dict[str, torch.Tensor]:
    """Of all examples."""
    inputs = examples.__getitems__([*range(len(examples))]).inputs
    assert isinstance(inputs, dict)
    return inputs


def check_parts(parts: Parts, train: int, validation: int, test: int, classes: int = 2) -> None:
    """Loads all batches of all parts."""
    assert (parts.task, parts.classes) == ("classification", classes)
    for part, count in ((parts.train, train), (parts.validation, validation), (parts.test, test)):
        assert len(part) == count
        loaded = batches(part)
        assert torch.cat([batch.indices for batch in loaded]).tolist() == [*range(count)]
        for batch in loaded:
            assert isinstance(batch.inputs, dict)
            assert isinstance(batch.targets, torch.Tensor)
            ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
            assert ids.dtype == mask.dtype == batch.targets.dtype == torch.int64
            assert torch.equal(mask.bool(), ids != 0)
            assert mask[:, -1].any(), "no longer than the longest"
            assert parts.vocabulary is not None
            assert ids.max() < parts.vocabulary


@pytest.mark.parametrize("encoding", [WORDS, PIECES], ids=["words", "pieces"])
@pytest.mark.parametrize("write", [write_zip, write_folder], ids=["zip", "folder"])
def test_rte(data_folder: Path, write: Callable[..., None], encoding: TextEncoding) -> None:
    write(data_folder / ("RTE.zip" if write is write_zip else "RTE"), rte())
    parts = load(RTE, encoding)
    check_parts(parts, train=18, validation=2, test=6)
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert str(data_folder) in parts.source
    assert parts.note is not None
    assert "official development part" in parts.note
    assert "20 training and 6 test examples, where 2,490 and 277 were published" in parts.note


def test_a_validation_file_without_header_belongs_to_the_training_part(data_folder: Path) -> None:
    write_zip(data_folder / "rte.zip", rte(val=tsv("", range(20, 30), header=False)))
    check_parts(load(RTE), train=27, validation=3, test=6)


def test_qnli(data_folder: Path) -> None:
    files = {f"QNLI/{name}.tsv": tsv("question\tsentence", range(n)) for name, n in (("train", 20), ("dev", 6))}
    write_zip(data_folder / "QNLIv2.zip", {**files, "__MACOSX/QNLI/._train.tsv": b"\0"})
    check_parts(load(QNLI), train=18, validation=2, test=6)
    check_parts(load(QNLI, train_examples=10, test_examples=3), train=9, validation=1, test=3)


@pytest.mark.parametrize(("name", "answer"), [("val", "label"), ("dev", "answer")])
def test_boolq(data_folder: Path, name: str, answer: str) -> None:
    files = {f"BoolQ/{part}.jsonl": jsonl(range(n), answer) for part, n in (("train", 20), (name, 6))}
    write_zip(data_folder / "BoolQ.zip", files)
    parts = load(BOOLQ)
    check_parts(parts, train=18, validation=2, test=6)
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_boolq_of_the_development_part_alone(data_folder: Path) -> None:
    write_zip(data_folder / "boolq-dev.zip", {"dev.jsonl": jsonl(range(50), "answer")})
    first, other = load(BOOLQ), load(BOOLQ, split_seed=1)
    check_parts(first, train=36, validation=4, test=10)
    assert first.note is not None
    assert "not the official split" in first.note
    assert first.test.labels is not None
    assert other.test.labels is not None
    assert first.test.labels.tolist() == other.test.labels.tolist(), "tested on the same for all seeds"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_marks_and_ends_of_lines_do_not_matter(data_folder: Path, start: bytes, end: bytes) -> None:
    """Of what was saved on Windows."""
    lines = jsonl(range(20), "label")
    write_zip(data_folder / "RTE.zip", rte())
    write_zip(data_folder / "BoolQ.zip", {f"BoolQ/{part}.jsonl": lines for part in ("train", "val")})
    expected = load(RTE), load(BOOLQ)
    write_zip(data_folder / "RTE.zip", {n: start + content.replace(b"\n", end) for n, content in rte().items()})
    lines = start + lines.replace(b"\n", end)
    write_zip(data_folder / "BoolQ.zip", {f"BoolQ/{part}.jsonl": lines for part in ("train", "val")})
    for before, after in zip(expected, (load(RTE), load(BOOLQ)), strict=True):
        assert torch.equal(inputs_of(before.train)["input_ids"], inputs_of(after.train)["input_ids"])
        assert before.vocabulary == after.vocabulary


def test_a_vocabulary_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\nsand", encoding="utf-8-sig")
    assert WordPieces.read(tmp_path, 512)(["sand"], None)[0].tokens == [2, 4, 3]


def test_text_in_another_encoding_is_named(data_folder: Path) -> None:
    files = rte(dev=tsv("sentence1\tsentence2", range(6)).replace(b"sand", "Sänd".encode("latin-1")))
    write_zip(data_folder / "RTE.zip", files)
    with pytest.raises(ExperimentError, match=r"dev\.tsv is damaged, or no text in UTF-8 .*0xe4.*: save it in UTF-8"):
        load(RTE)


def test_an_encoding_is_needed(data_folder: Path) -> None:
    write_zip(data_folder / "RTE.zip", rte())
    with pytest.raises(ExperimentError, match="choose a model that reads text"):
        load(RTE, None)


def test_words() -> None:
    words = Words(["Sand, sand and sea", "the sea"], max_length=9)
    # By their frequency, then by the alphabet: sand sea , and the
    assert words.vocabulary == 8
    assert words(["The SAND, and more"], ["sea of"])[0] == ([7, 3, 5, 6, 1, 2, 4, 1], 6)
    # Of ten and six words nine tokens are left: the longer text is cut first.
    assert words(["sand " * 10], ["sea of sand and the sea"])[0] == ([3, 3, 3, 3, 2, 4, 1, 3, 6], 5)
    assert words(["sand " * 10], ["sea of"])[0] == ([3, 3, 3, 3, 3, 3, 2, 4, 1], 7)
    assert words(["sand"], ["sea " * 10])[0] == ([3, 2, 4, 4, 4, 4, 4, 4, 4], 2)


def test_the_vocabulary_is_of_the_examples_to_train_with(data_folder: Path) -> None:
    write_zip(data_folder / "RTE.zip", rte(train=tsv("sentence1\tsentence2", range(6))))
    seen = set()
    for seed in range(6):
        parts = load(RTE, split_seed=seed)
        assert (inputs_of(parts.train)["input_ids"] != 1).all()
        assert (inputs_of(parts.validation)["input_ids"] == 1).any()
        seen.add(parts.vocabulary)
    assert len(seen) > 1


def test_pieces_are_those_of_bert(tmp_path: Path) -> None:
    from transformers.models.bert import BertTokenizerFast  # type: ignore[attr-defined]

    texts = [text for pair in SENTENCES for text in pair]
    learned = WordPieces.learn(texts, max_length=20)
    vocabulary = learned._tokenizer.get_vocab()
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=lambda piece: vocabulary[piece])) + "\n")
    pieces = WordPieces.read(tmp_path, max_length=20)
    assert pieces.vocabulary == learned.vocabulary == len(vocabulary)

    first, second = ["Café RIVERS, sand.", "short", *(a for a, _ in SENTENCES)], [
        "An unseen wørd 漢",
        "the race " * 20,
        *(b for _, b in SENTENCES),
    ]  # fmt: skip
    peer = BertTokenizerFast.from_pretrained(tmp_path, do_lower_case=True)
    expected = peer(first, second, truncation="longest_first", max_length=20, padding=True, return_tensors="pt")
    encoded = pieces(first, second)
    examples = TextExamples(encoded, torch.zeros(len(first), dtype=torch.int64), True, pieces.decode)
    inputs = {name: values.tolist() for name, values in inputs_of(examples).items()}
    assert inputs == {name: values.tolist() for name, values in expected.items()}
    assert examples.told(1).startswith("20 tokens: [CLS] short [SEP] the race the race")


def test_learned_pieces_are_the_same_each_time() -> None:
    texts = [f"{first} {second}" for first, second in SENTENCES]
    first, *others = (WordPieces.learn(texts, 512)._tokenizer.get_vocab() for _ in range(4))
    assert all(other == first for other in others)
    assert first["[PAD]"] == 0


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (b"[UNK]\n[PAD]\n[CLS]\n[SEP]\n", r"\[PAD\] has the number 1"),
        (b"[PAD]\n[UNK]\nthe\n", r"has no \[CLS\], \[SEP\]"),
        (b"\xff\xfe", "is damaged, or no text in UTF-8"),
        (None, "cannot read"),
    ],
    ids=["padding", "special", "no text", "missing"],
)
def test_a_damaged_vocabulary_is_named(tmp_path: Path, vocabulary: bytes | None, message: str) -> None:
    if vocabulary is not None:
        (tmp_path / "vocab.txt").write_bytes(vocabulary)
    with pytest.raises(ExperimentError, match=message) as caught:
        WordPieces.read(tmp_path, 512)
    assert str(tmp_path / "vocab.txt") in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": b"0\tone\tentailment\n"}, "train.tsv, line 1: 3 fields instead of index, sentence1"),
        ({"train": tsv("sentence1\tsentence2", range(5)) + b"5\tone\ttwo\tmaybe\n"}, "line 7: the label is 'maybe'"),
        ({"train": b"index\tsentence1\tsentence2\tlabel\n"}, "train.tsv holds no examples"),
        ({"train": b"\xff\xfe"}, "train.tsv is damaged, or no text"),
        ({"val": tsv("sentence1\tsentence2", range(19, 22))}, "training examples twice"),
    ],
    ids=["fields", "label", "empty", "no text", "twice"],
)
def test_damaged_tables_are_named(data_folder: Path, changed: dict[str, bytes], message: str) -> None:
    write_zip(data_folder / "RTE.zip", rte(**changed))
    with pytest.raises(ExperimentError, match=message) as caught:
        load(RTE)
    assert str(data_folder / "RTE.zip") in str(caught.value)


def test_missing_and_damaged_archives_are_named(data_folder: Path) -> None:
    write_folder(data_folder, {"RTE/train.tsv": rte()["RTE/train.tsv"]})
    with pytest.raises(ExperimentError, match=r"RTE holds no dev\.tsv"):
        load(RTE)
    write_zip(data_folder / "QNLI.zip", {"QNLI/train.tsv": b""})
    archive = (data_folder / "QNLI.zip").read_bytes()
    (data_folder / "QNLI.zip").write_bytes(archive[:-30])
    with pytest.raises(ExperimentError, match=r"cannot read .*QNLI\.zip"):
        load(QNLI)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question": "is it"', "line 1 is no JSON"),
        (b'\n{"question": "is it", "answer": true}', "line 2 must have the texts question and passage"),
        (b'{"question": "is it", "passage": "It is.", "answer": "yes"}', "line 1 must have"),
        (b"[]", "line 1 must have"),
        (b"\n", "holds no examples"),
        (b"[" * 200_000, "line 1 is no JSON"),
    ],
    ids=["json", "field", "answer", "list", "empty", "brackets"],
)
def test_damaged_questions_are_named(data_folder: Path, content: bytes, message: str) -> None:
    write_zip(data_folder / "boolq-dev.zip", {"dev.jsonl": content})
    with pytest.raises(ExperimentError, match=message) as caught:
        load(BOOLQ)
    assert str(data_folder / "boolq-dev.zip" / "dev.jsonl") in str(caught.value)


def test_boolq_without_its_parts(data_folder: Path) -> None:
    write_zip(data_folder / "BoolQ.zip", {"BoolQ/train.jsonl": jsonl(range(5), "label")})
    with pytest.raises(ExperimentError, match=r"neither val\.jsonl nor dev\.jsonl"):
        load(BOOLQ)


class Split(dict[str, Sequence[object]]):
    """What a split of `datasets` offers that is used here."""

    @property
    def column_names(self) -> list[str]:
        return list(self)


def pretend_hub(monkeypatch: pytest.MonkeyPatch, splits: dict[str, Split], error: Exception | None = None) -> None:
    """Puts these splits in the place of the Hugging Face Hub, or an error."""

    def dataset_info(repository: str, timeout: float) -> None:
        assert "/" in repository
        assert timeout < 60
        if error is not None:
            raise error

    class DatasetsError(Exception):
        pass

    def load_dataset(*_: str | None, cache_dir: str) -> dict[str, Split]:
        assert cache_dir.endswith("huggingface")
        return splits

    monkeypatch.setattr("huggingface_hub.HfApi", lambda: SimpleNamespace(dataset_info=dataset_info))
    fake = SimpleNamespace(load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=DatasetsError))
    monkeypatch.setitem(sys.modules, "datasets", fake)


def test_download(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [[first for first, _ in SENTENCES], [second for _, second in SENTENCES]]
    table = Split(sentence1=columns[0], sentence2=columns[1], label=[0, 1, 0, 1, 0, 1])
    pretend_hub(monkeypatch, {"train": table, "validation": table})
    parts = load(RTE)
    check_parts(parts, train=5, validation=1, test=6)
    assert "Hugging Face Hub" in parts.source

    table = Split(question=columns[1], passage=columns[0], answer=[True, False] * 3)
    pretend_hub(monkeypatch, {"train": table, "validation": table})
    parts = load(BOOLQ)
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("data", [RTE, QNLI, BOOLQ], ids=lambda data: data.name)
def test_no_network(monkeypatch: pytest.MonkeyPatch, data: DataSet) -> None:
    pretend_hub(monkeypatch, {}, OSError("no route to host"))
    with pytest.raises(Unavailable, match=r"no route to host.*put .* into the folder"):
        load(data)


def test_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Unavailable, match="datasets is not installed"):
        hub.load_from_hub("nyu-mll/glue", "rte", "do without")
