"""What `make reproduce-small` writes is read as anybody's files are."""

import io
import tarfile
from pathlib import Path

import torch

from lerac_experiments.data.images_in_memory import Labelled
from lerac_experiments.data.own.sample import RATINGS, SNIPPETS, write_images, write_sentences
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import Request, TextEncoding

_SENTENCES = ((2.5, 'a "joy", again'), (-0.79, "so so"), (-0.8, "dull, dull"), (0.8, "fine"), (-3.0, "awful — really"))


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_sentences_near_neutral_are_left_out(tmp_path: Path) -> None:
    rows = "".join(f"{number}\t{rating}\t{text}\n" for number, (rating, text) in enumerate(_SENTENCES * 10, 1))
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        _add(archive, SNIPPETS, rows.encode())
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz") as archive:
        _add(archive, f"package-1.0/{RATINGS}", inner.getvalue())

    write_sentences(tmp_path / "package.tar.gz", tmp_path / "sentences.csv")

    lines = (tmp_path / "sentences.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:5] == [
        *("text,label", '"a ""joy"", again",positive', '"dull, dull",negative', "fine,positive"),
        "awful — really,negative",
    ]
    assert len(lines) == 41
    parts = find_data(f"texts:{tmp_path}/sentences.csv").load(Request(encoding=TextEncoding("words", 8)))
    assert parts.class_names == ("negative", "positive")


def test_the_first_images_of_each_class_are_written(tmp_path: Path) -> None:
    images = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 4, 4).contiguous()
    for part in ("train", "test"):
        write_images(Labelled(images, torch.arange(40) % 2), ("even", "odd"), 12, tmp_path / part)

    assert sorted(int(path.stem) for path in (tmp_path / "train" / "odd").iterdir()) == [*range(1, 24, 2)]
    parts = find_data(f"images:{tmp_path}").load(Request())
    assert parts.class_names == ("even", "odd")
    assert len(parts.test) == 24
