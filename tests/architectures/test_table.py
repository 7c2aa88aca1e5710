"""The page that the survey writes."""

from pathlib import Path

import pytest

from tests.architectures.table import markdown
from tests.architectures.verdict import Verdict


@pytest.mark.parametrize(
    ("rows", "written"),
    [
        ("docs/results/architectures.csv", "[results/architectures.csv](results/architectures.csv)"),
        ("/somewhere/else.csv", "`else.csv`"),
    ],
)
def test_links_to_the_rows_where_readers_have_them(rows: str, written: str) -> None:
    verdict = Verdict("torchvision", "resnet18", 62, 21, 20, 0.5, 0.5, "right", "")
    assert f"The rows are in {written}. Repeat" in markdown([verdict], Path(rows))
