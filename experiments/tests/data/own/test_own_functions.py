"""FILE.py:FUNCTION: Datasets of one's own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.tests.data.own.helpers import counts, load, refused
from lerac_experiments.data.registry import find_data

SOURCE = """
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, TensorDataset


class Made(Dataset):
    def __init__(self, make, count=20):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index)


def images(count=20):
    return TensorDataset(torch.rand(count, 3, 8, 8), torch.arange(count) % 2)

def pair(): return images(20), images(6)
def three(): return {"train": images(20), "val": images(4), "test": images(6)}
def pillow(): return Made(lambda i: (Image.new("L", (8, 8)), "ab"[i % 2]))
def arrays(): return Made(lambda i: (np.full((3, 8, 8), 255, np.uint8), np.int64(i % 2)))
def rows(): return TensorDataset(torch.rand(20, 5), torch.rand(20))
def texts(): return Made(lambda i: (f"word{i}", "ab"[i % 2]))
def pairs(): return Made(lambda i: ((f"word{i}", "so"), i % 2))
def sounds(): return TensorDataset(torch.rand(20, 1, 16, 12), torch.arange(20) % 2)
def boxes(): return Made(lambda i: (torch.rand(3, 9, 9), {"boxes": [[0, 0, 4, 5 + i % 2]], "labels": [1 + i % 2]}))

def stream():
    class Stream(IterableDataset):
        def __iter__(self): return iter(())
    return Stream()
def nothing(): return None
def empty(): return images(0)
def other_parts(): return {"train": images(), "hold out": images()}
def raising(): return Made(lambda i: (torch.rand(3, 8, 8), 1 // (i - 3)))
def alone(): return Made(lambda i: torch.rand(3, 8, 8))
def lists(): return Made(lambda i: ([1.0], i % 2))
def integers(): return Made(lambda i: (torch.ones(3, 8, 8, dtype=torch.int64), i % 2))
def nan(): return Made(lambda i: (torch.full((3, 8, 8), torch.nan), i % 2))
def several(): return Made(lambda i: (torch.rand(3, 8, 8 + i), i % 2))
def one_class(): return Made(lambda i: (torch.rand(3, 8, 8), 1))
def negative(): return Made(lambda i: (torch.rand(3, 8, 8), -1))
def values(): return Made(lambda i: (torch.rand(3, 8, 8), i / 2))
def vectors(): return Made(lambda i: (torch.rand(3, 8, 8), torch.rand(2)))
def outside(): return Made(lambda i: (torch.rand(3, 9, 9), {"boxes": [[0, 0, 4, 12]], "labels": [1]}))
def background(): return Made(lambda i: (torch.rand(3, 9, 9), {"boxes": [[0, 0, 4, 4]], "labels": [0]}))
def unboxed(): return Made(lambda i: (torch.rand(3, 9, 9), i))
def no_boxes(): return Made(lambda i: (torch.rand(3, 9, 9), {"boxes": [], "labels": []}))
def numbers_as_texts(): return Made(lambda i: (i, i % 2))
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(SOURCE)
    return f"{tmp_path}/mine.py"


@pytest.mark.parametrize(
    ("function", "expected", "classes"),
    [
        ("images", (14, 2, 4), ("0", "1")),
        ("images,count=40", (29, 3, 8), ("0", "1")),
        ("pair", (18, 2, 6), ("0", "1")),
        ("three", (20, 4, 6), ("0", "1")),
        ("pillow", (14, 2, 4), ("a", "b")),
        ("arrays", (14, 2, 4), ("0", "1")),
        ("rows,kind=table,task=regression", (14, 2, 4), ()),
        ("texts,kind=text", (14, 2, 4), ("a", "b")),
        ("pairs,kind=text", (14, 2, 4), ("0", "1")),
        ("sounds,kind=audio", (14, 2, 4), ("0", "1")),
        ("boxes,kind=detection", (14, 2, 4), ("1", "2")),
    ],
)
def test_datasets_of_every_kind(place: str, function: str, expected: tuple[int, ...], classes: tuple[str, ...]) -> None:
    data, parts = find_data(f"{place}:{function}"), load(f"{place}:{function}")
    assert (counts(parts), parts.class_names) == (expected, classes)
    assert (parts.task == "regression", parts.mix is not None) == (data.regression, data.mixes)
    assert parts.classes == (len(classes) + (data.kind == "detection") or 1)
    batch = parts.train.__getitems__([1, 0])
    assert batch.indices.tolist() == [1, 0]
    assert len(batch.targets) == 2
    assert parts.train.told(0)
    if isinstance(batch.inputs, Tensor):
        assert batch.inputs.dtype == torch.float32
        assert batch.inputs.max() <= 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("stream", "must return Datasets that can be indexed and have a length"),
        ("nothing", "it returns NoneType"),
        ("empty", "it returns no examples"),
        ("other_parts", "it returns 'hold out', which is none of the parts train,"),
        ("raising", "example 3 of 20: ZeroDivisionError: "),
        ("alone", "example 0 is no pair of inputs and target, but Tensor"),
        ("lists", "the inputs of example 0 are no tensor, array or image, but list"),
        ("integers", "are not all finite numbers of a floating-point type"),
        ("nan", "are not all finite numbers of a floating-point type"),
        ("several", "inputs are of several shapes, such as (3, 8, "),
        ("one_class", "all examples are of one class, 1"),
        ("negative", "the target of example 0 is -1, no class"),
        ("values", "values are given by `,task=regression`"),
        ("vectors", "the target of example 0 has the shape (2,), and is to be one"),
        ("rows", "have the shape (5,), and image data has channels, height and width"),
        ("outside,kind=detection", "boxes must be left, top, right, bottom in pixels within 9x9"),
        ("background,kind=detection", "each with a label from 1"),
        ("unboxed,kind=detection", "the target of example 0 has no boxes [n, 4] and labels [n]"),
        ("no_boxes,kind=detection", "there is no box in any image"),
        ("numbers_as_texts,kind=text", "inputs must be texts, or pairs of texts"),
        ("images,kind=video", "kind must be one of image, text, audio, detection, table, got 'video'"),
        ("images,task=guess", "task must be classification, or regression"),
        ("images,number=3", "has no parameter 'number'"),
        ("imaged", "has no imaged: it has"),
    ],
)
def test_what_is_no_data_is_refused(place: str, function: str, message: str) -> None:
    refused(f"{place}:{function}", message)


def test_what_a_function_draws_is_the_same_each_time(place: str) -> None:
    one, other = (load(f"{place}:images").train.__getitems__([0, 1]).inputs for _ in range(2))
    assert isinstance(one, Tensor)
    assert isinstance(other, Tensor)
    assert torch.equal(one, other)
    assert find_data(f"{place}:images,count=40").title == "mine.py:images,count=40"


def test_the_fingerprint_is_of_the_source(place: str) -> None:
    def of() -> str:
        fingerprint = find_data(f"{place}:images").fingerprint
        assert fingerprint is not None
        return fingerprint()

    before = of()
    Path(place).write_text(SOURCE.replace("torch.rand(count", "torch.zeros(count"))
    assert of() != before
