"""Whatever becomes of a file of one's own data, it is read, or refused with a message."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.tests.data.own import test_own_boxes, test_own_tables, test_own_texts
from experiments.tests.data.own.helpers import load, write
from lerac_experiments.errors import ExperimentError

PIECES = (b'"', b",", b"\n", b"\t", b"{", b"[", b"null", b"NaN", b"1e999", b"-1", b"\0", b"\xff", b"<a>", b"\r", b":")
FILES = {
    "texts:{}/a.csv": "a.csv",
    "texts:{}/a.jsonl": "a.jsonl",
    "table:{}/table.csv": "table.csv",
    "boxes:{}/voc": "voc/Annotations/01.xml",
    "boxes:{}/yolo": "yolo/labels/01.txt",
    "boxes:{}/coco": "coco/annotations.json",
}
"""What is read as text. Damaged images and recordings: see test_media."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    lines = [json.dumps({"text": f"word{i}", "label": i % 2}) for i in range(20)]
    write(folder, {"a.csv": test_own_texts.csv(), "a.jsonl": "\n".join(lines), "table.csv": test_own_tables.table()})
    for form, make in test_own_boxes.WRITE.items():
        make(folder / form)
    return folder


@settings(
    derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    spec=st.sampled_from(sorted(FILES)),
    place=st.floats(0, 1),
    removed=st.integers(0, 30),
    put=st.lists(st.sampled_from(PIECES), max_size=3) | st.just([b"\x7f" * 9]),
    skip=st.booleans(),
)
def test_damage_is_refused_with_a_message(
    folder: Path, spec: str, place: float, removed: int, put: list[bytes], skip: bool
) -> None:
    file = folder / FILES[spec]
    whole = file.read_bytes()
    at = round(place * len(whole))
    file.write_bytes(whole[:at] + b"".join(put) + whole[at + removed :])
    try:
        with contextlib.suppress(ExperimentError):
            load(spec.format(folder) + ",skip-damaged" * skip)
    finally:
        file.write_bytes(whole)
