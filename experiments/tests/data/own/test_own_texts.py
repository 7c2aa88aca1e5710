"""`texts:`: tables of texts as people have them."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.tests.data.own.helpers import counts, faulty, load, refused, write
from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.rows import RowOptions, read_rows
from lerac_experiments.data.registry import find_data
from lerac_experiments.errors import ExperimentError

LABELS = ("bad", "good")


def csv(rows: int = 20, header: str = "text,label", separator: str = ",", end: str = "\n") -> str:
    lines = [header.replace(",", separator), *(f"word{i}{separator}{LABELS[i % 2]}" for i in range(rows))]
    return end.join(lines) + end


def test_a_table_of_texts(tmp_path: Path) -> None:
    parts = load(f"texts:{write(tmp_path, {'a.csv': csv()})}/a.csv")
    assert (parts.task, parts.class_names, counts(parts)) == ("classification", LABELS, (14, 2, 4))
    assert parts.vocabulary == 3 + 14
    assert "tokens: word" in parts.train.told(0)


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("bom.csv", b"\xef\xbb\xbf" + csv().encode(), ""),
        ("crlf.csv", csv(end="\r\n").encode(), ""),
        ("cr.csv", csv(end="\r").encode(), ""),
        ("utf16.tsv", csv(separator="\t").encode("utf-16"), ""),
        ("utf16le.csv", csv().encode("utf-16-le"), ",encoding=utf-16-le"),
        ("latin.csv", csv().replace("word", "caf\xe9").encode("latin-1"), ",encoding=latin-1"),
        ("semicolon.csv", csv(separator=";").encode(), ",delimiter=semicolon"),
        ("tab.txt", csv(separator="\t").encode(), ",delimiter=tab"),
        ("a.tsv", csv(separator="\t").encode(), ""),
        ("no newline at the end.csv", csv().rstrip().encode(), ""),
        ("blank lines.csv", csv().replace("\n", "\n\n").encode(), ""),
        ("headless.csv", csv().partition("\n")[2].encode(), ",no-header,text=1,label=2"),
        ("names.csv", csv(header="Review,Sentiment").encode(), ",text=Review,label=Sentiment"),
    ],
)
def test_every_way_to_write_a_table(tmp_path: Path, name: str, content: bytes, options: str) -> None:
    write(tmp_path, {name: content})
    parts = load(f"texts:{tmp_path}/{name}{options}")
    assert (counts(parts), parts.class_names) == ((14, 2, 4), LABELS)
    assert "�" not in parts.train.told(0)


def test_pairs_parts_and_lines_of_json(tmp_path: Path) -> None:
    rows = [
        {"premise": f"it is {i}", "hypothesis": "so", "label": i % 2, "split": "dev" if i > 16 else "train"}
        for i in range(20)
    ]
    write(
        tmp_path,
        {"a.jsonl": "\n".join(map(json.dumps, rows)), "test.jsonl": json.dumps(rows[0]) + "\n" + json.dumps(rows[1])},
    )
    parts = load(f"texts:{tmp_path}/a.jsonl,text=premise,second=hypothesis")
    assert (counts(parts), parts.class_names) == ((15, 2, 3), ("0", "1"))
    assert "tested on the validation part" in (parts.note or "")
    assert "[SEP] so" in parts.train.told(0)
    parts = load(f"texts:{tmp_path}/a.jsonl,text=premise,test={tmp_path}/test.jsonl")
    assert counts(parts) == (18, 2, 2)
    assert "of 2 test examples are the same as some that are trained with" in (parts.note or "")


def test_quoted_fields_may_hold_anything(tmp_path: Path) -> None:
    text = '"a ""word"", and\nanother line",good\n'
    write(tmp_path, {"a.csv": csv() + text * 3})
    parts = load(f"texts:{tmp_path}/a.csv")
    assert sum(counts(parts)) == 23
    write(tmp_path, {"glue.tsv": csv(separator="\t") + '"stray\tgood\n' * 2})
    assert sum(counts(load(f"texts:{tmp_path}/glue.tsv"))) == 22
    write(tmp_path, {"stray.csv": csv() + '"stray,good\n'})
    refused(f"texts:{tmp_path}/stray.csv", "If quotation marks belong to the texts, add `,quotes=no`")
    assert sum(counts(load(f"texts:{tmp_path}/stray.csv,quotes=no"))) == 21
    write(tmp_path, {"long.csv": csv() + f"{'word ' * 50_000},good\n"})
    assert sum(counts(load(f"texts:{tmp_path}/long.csv"))) == 21


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("word\n", "lines of another number of fields"),
        ("word,good,more\n", "lines of another number of fields"),
        ("word,\n", "rows without a label"),
        (" ,good\n", "rows without a text"),
        ("\tword\t, \n", "rows without a label"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, content: str, kind: str) -> None:
    write(tmp_path, {"a.csv": csv() + content})
    parts = faulty(f"texts:{tmp_path}/a.csv", kind)
    assert sum(counts(parts)) == 20
    assert any("a.csv, line 22" in message for message in parts.left_out)


def test_values_that_json_lacks_are_missing(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"word{i}", "label": LABELS[i % 2]}) for i in range(20)]
    write(
        tmp_path,
        {
            "a.jsonl": "\n".join(
                [*rows, '{"text": "a", "label": NaN}', '{"text": null, "label": "good"}', '{"label": "bad"}']
            )
        },
    )
    faulty(f"texts:{tmp_path}/a.jsonl", "rows without a label", "rows without a text")


@pytest.mark.parametrize(
    "line", ['{"text": "a"', "[1]", '{"text": ["a"], "label": 1}', '{"text": "a", "text": "b"}', "[" * 5000]
)
def test_lines_that_are_no_json_are_named(tmp_path: Path, line: str) -> None:
    rows = [json.dumps({"text": f"word{i}", "label": LABELS[i % 2]}) for i in range(20)]
    write(tmp_path, {"a.jsonl": "\n".join([*rows, line])})
    faulty(f"texts:{tmp_path}/a.jsonl", "lines that are no JSON")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "holds no examples"),
        ("a.csv", b"text,label\n", "holds no examples"),
        ("a.jsonl", b"\n\n", "holds no examples"),
        (
            "a.csv",
            csv(header="sentence,label").encode(),
            "has no column 'text', but 'sentence', 'label': name another by `,text=...`",
        ),
        ("a.csv", csv(header="text,text").encode(), "has two columns 'text'"),
        ("a.csv", csv(separator=";").encode(), "it may want `,delimiter=semicolon`"),
        ("a.csv", csv().replace("word", "caf\xe9").encode("latin-1"), "`,encoding=latin-1`"),
        ("a.csv", csv().encode("utf-16-le"), "line 1 holds a NUL. UTF-16 without its mark is `,encoding=utf-16-le`"),
        ("a.csv", csv().encode() + b"a\0b,good\n", "line 22 holds a NUL"),
        ("a.csv", csv().replace("bad", "good").encode(), "all examples are of one class, 'good'"),
        ("a.csv", csv(2).encode(), "too few to divide"),
        ("a.xlsx", b"PK", "is none of the files that are read here"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (
            "a.csv",
            csv(header="text,label").replace("good", "").replace("bad", "").encode(),
            "rows without a label (20)",
        ),
        ("a.csv", b"text,label,split\n" + b"a,b,train\nc,d,first\n", "split is 'first', none of train"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(tmp_path, {name: content})
    refused(f"texts:{tmp_path}/{name}", message)


@pytest.mark.parametrize(
    ("name", "offered"), [("a.csv", True), ("a.csv,no-header", False), ("a.jsonl", False), ("a.csv,test=b.csv", True)]
)
def test_no_header_is_offered_to_files_whose_first_line_was_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, offered: bool
) -> None:
    content = csv().partition("\n")[2]
    write(tmp_path, {"a.csv": content, "b.csv": content, "a.jsonl": '{"review": "a", "label": "good"}\n'})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExperimentError, match=r"name another by `,text=\.\.\.`") as raised:
        load(f"texts:{name}")
    assert ("`,no-header`" in str(raised.value)) == offered


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": csv(), "b.csv": csv(header="text,class")})
    refused(f"texts:{tmp_path}/a.csv,encoding=utf-99", "encoding=utf-99 is none that Python knows")
    refused(f"texts:{tmp_path}/a.csv,encoding=ascii,second=more", "has no column 'more'")
    refused(f"texts:{tmp_path}/a.csv,split=fold", "has no column 'fold'")
    refused(f"texts:{tmp_path}/a.csv,test={tmp_path}/b.csv", "b.csv has no column 'label', which")
    refused(f"texts:{tmp_path}/a.csv,test={tmp_path}/c.csv", "there is no")
    refused(f"texts:{tmp_path}/a.csv,task=regression,skip-damaged", "holds no texts that can be used")


def test_values_are_predicted(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "a.csv": "text,label\n"
            + "".join(f"word{i},{i / 4}\n" for i in range(20))
            + "word,nan\nword,1e999\nword,high\n"
        },
    )
    data = find_data(f"texts:{tmp_path}/a.csv,task=regression,skip-damaged")
    parts = faulty(f"texts:{tmp_path}/a.csv,task=regression", "rows whose label is no number")
    assert (data.regression, parts.task, parts.classes) == (True, "regression", 1)
    assert parts.train.values is not None


@settings(
    derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=2, max_size=2),
        min_size=1,
    ),
    quoted=st.booleans(),
)
def test_what_was_written_is_read(tmp_path: Path, rows: list[list[str]], quoted: bool) -> None:
    rows = [[field.strip() or "x" for field in row] for row in rows]
    if quoted:
        lines = ["text,label", *(",".join('"' + field.replace('"', '""') + '"' for field in row) for row in rows)]
        path = tmp_path / "a.csv"
    else:
        lines = [json.dumps({"text": row[0], "label": row[1]}, ensure_ascii=False) for row in rows]
        path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    faults = Faults("a", skip=False)
    assert read_rows(path, RowOptions(), faults).values == rows
    assert not faults.found
