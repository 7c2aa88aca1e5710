"""FILE.py:FUNCTION and package.module:FUNCTION: a function of one's own that returns torch Datasets.

Its fingerprint is of its source alone, not of the examples: these may be many, and drawn anew each time.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import PurePath
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from lerac_experiments.data.audio_augmentation import mix_up
from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.media import image_tensor
from lerac_experiments.data.own.listed import numbered
from lerac_experiments.data.own.spec import PartName
from lerac_experiments.data.own.splits import PART_NAMES, divide
from lerac_experiments.data.source import DataSet, Kind, Parts, Request, Task
from lerac_experiments.data.text import Texts, encoded_parts
from lerac_experiments.errors import ExperimentError
from lerac_experiments.own_code.functions import OwnFunction, options_of, told

_DIMENSIONS = {"image": 3, "audio": 3, "table": 1, "detection": 3}
"""Of the inputs of one example."""
_SHAPES = {
    "image": "channels, height and width",
    "audio": "spectrograms of 1 channel, height and width",
    "table": "one row of features",
    "detection": "3 channels, height and width, with values from 0 to 1",
}


class DatasetExamples(Examples):
    """Examples that a Dataset makes when they are asked for; all of one shape.

    Args:
        items: where they are.
        targets: their classes int64 [N], or values float [N].
    """

    def __init__(self, items: Sequence["_Item"], targets: Tensor, asked: "_Asked") -> None:
        if len(shapes := {item.content for item in items}) > 1:
            raise asked.error(f"inputs are of several shapes, such as {' and '.join(map(str, sorted(shapes)[:2]))}")
        self.targets = targets
        self._items, self._asked = items, asked

    def inputs_of(self, indices: list[int]) -> Tensor:
        return torch.stack([_read(self._items[at].dataset, self._items[at].number, self._asked)[0] for at in indices])


class BoxedDataset(Examples):
    """Images with boxes that a Dataset makes, as `BoxedImages`."""

    def __init__(self, items: Sequence["_Item"], _: Tensor, asked: "_Asked") -> None:
        self._items, self._asked = items, asked
        self._boxes = [_boxes(item, asked) for item in items]
        *self._first, self.boxes = accumulate((len(labels) for _, labels in self._boxes), initial=0)

    @property
    def box_labels(self) -> Tensor:
        """The labels of all boxes, int64."""
        return torch.cat([labels for _, labels in self._boxes])

    def __len__(self) -> int:
        return len(self._items)

    def __getitems__(self, indices: list[int]) -> Batch:
        images = [_read(self._items[at].dataset, self._items[at].number, self._asked)[0] for at in indices]
        return Batch(images, [self._target(at) for at in indices], torch.tensor(indices))

    def _target(self, at: int) -> dict[str, Tensor]:
        boxes, labels = self._boxes[at]
        first = self._first[at]
        none_difficult = torch.zeros(len(labels), dtype=torch.bool)
        numbers = torch.arange(first, first + len(labels))
        return {"boxes": boxes, "labels": labels, "difficult": none_difficult, "indices": numbers}


@dataclass(frozen=True)
class _Asked:
    """A function, and what is said of its data.

    Attributes:
        options: arguments of the function.
    """

    text: str
    function: OwnFunction
    kind: Kind
    task: Task
    options: dict[str, Any]

    def error(self, message: str) -> ExperimentError:
        return ExperimentError(f"{self.text}: {message}")


def function_data(text: str) -> DataSet | None:
    """The data that a function returns, which is not called yet; None, if the text stands for none.

    Raises:
        ExperimentError: the option kind or task has no meaning.
    """
    if ":" not in text:
        return None
    name, options = options_of(text)
    function = OwnFunction.parse(name)
    if function is None:
        return None
    kind, task = options.pop("kind", "image"), options.pop("task", None)
    if kind not in get_args(Kind):
        raise ExperimentError(f"{text}: kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if kind == "detection" or task is None:
        task = "detection" if kind == "detection" else "classification"
    if task not in get_args(Task) or (task == "regression" and kind == "audio"):
        raise ExperimentError(
            f"{text}: task must be classification, or regression of image, text or table, got {task!r}"
        )
    asked = _Asked(text, function, kind, task, options)
    return DataSet(
        text,
        text.replace(function.place, PurePath(function.place).name, 1),
        kind,
        lambda request: _load(asked, request),
        regression=task == "regression",
        fingerprint=function.fingerprint,
    )


def _load(asked: _Asked, request: Request) -> Parts:
    """Calls the function and goes once through all examples, so that what is wrong is found before anything is trained.

    Raises:
        ExperimentError: it returns something else, an example raises or is of another form, or there are too few.
    """
    with torch.random.fork_rng(devices=()):  # what the function draws is the same each time
        torch.default_generator.manual_seed(request.split_seed)
        returned = asked.function.call({"split_seed": request.split_seed}, asked.options)
        items = [item for part, dataset in _datasets(returned, asked) for item in _items(dataset, part, asked)]
    source = asked.function.spec
    targets, classes = _targets(items, asked)
    named = [item.part for item in items]
    division = divide(named, targets if classes and asked.task == "classification" else None, request, source, classes)
    chosen = [[items[at] for at in numbers.tolist()] for numbers in division.numbers]
    of_parts = [targets[numbers] for numbers in division.numbers]
    if asked.kind == "text":
        texts = [_texts(part, asked) for part in chosen]
        made = encoded_parts(texts, of_parts, len(classes) or 1, request, source, division.note)
        return replace(made, class_names=tuple(classes))
    kind = BoxedDataset if asked.kind == "detection" else DatasetExamples
    train, validation, test = (kind(*pair, asked) for pair in zip(chosen, of_parts, strict=True))
    mix = partial(mix_up, classes=len(classes)) if asked.kind == "audio" else None
    count = len(classes) + 1 if asked.task == "detection" else len(classes) or 1
    return Parts(asked.task, count, train, validation, test, source, division.note, mix=mix, class_names=tuple(classes))


def _datasets(returned: Any, asked: _Asked) -> list[tuple[PartName | None, Any]]:
    """The Datasets and the parts that they are: of a mapping by its names, of a sequence by their order; a single one
    is all of the examples."""
    found: list[tuple[PartName | None, Any]]
    if isinstance(returned, Mapping):
        unknown = [name for name in returned if str(name).lower() not in PART_NAMES]
        if unknown:
            raise asked.error(f"it returns {unknown[0]!r}, which is none of the parts {', '.join(PART_NAMES)}")
        found = [(PART_NAMES[str(name).lower()], each) for name, each in returned.items() if each is not None]
    elif isinstance(returned, tuple | list) and len(returned) in (2, 3):
        order: tuple[PartName, ...] = ("train", "test") if len(returned) == 2 else ("train", "validation", "test")
        found = [(name, each) for name, each in zip(order, returned, strict=True) if each is not None]
    else:
        found = [(None, returned)]
    for _, each in found:
        indexed = hasattr(each, "__getitem__") and hasattr(each, "__len__") and not isinstance(each, str | Mapping)
        if isinstance(each, IterableDataset) or not indexed:
            raise asked.error(
                "it must return Datasets that can be indexed and have a length: one, or a tuple (train, test) or "
                f"(train, validation, test), or a dict of such names; it returns {type(each).__name__}"
            )
    return found


@dataclass(frozen=True)
class _Item:
    """An example: where it is, and what is kept of it.

    Attributes:
        content: of texts, the text or the pair; of others, the shape of the inputs.
        target: a class, a value, or the boxes and their labels.
    """

    dataset: Any
    number: int
    part: PartName | None
    content: Any
    target: Any


def _items(dataset: Any, part: PartName | None, asked: _Asked) -> Iterator[_Item]:
    for number in range(len(dataset)):
        inputs, target = _read(dataset, number, asked)
        content = inputs if asked.kind == "text" else _shape(inputs, number, asked)
        yield _Item(dataset, number, part, content, target)


def _read(dataset: Any, number: int, asked: _Asked) -> tuple[Any, Any]:
    """The inputs and the target of an example. What the Dataset raises becomes an ExperimentError."""
    try:
        item = dataset[number]
    except Exception as error:
        raise asked.error(f"example {number} of {len(dataset)}: {told(error, asked.function.files())}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise asked.error(f"example {number} is no pair of inputs and target, but {type(item).__name__}")
    inputs, target = item
    return inputs if asked.kind == "text" else _as_tensor(inputs, number, asked), target


def _shape(inputs: Tensor, number: int, asked: _Asked) -> tuple[int, ...]:
    if inputs.ndim != _DIMENSIONS[asked.kind] or (asked.kind == "detection" and inputs.shape[0] != 3):
        raise asked.error(
            f"the inputs of example {number} have the shape {tuple(inputs.shape)}, and {asked.kind} data has "
            f"{_SHAPES[asked.kind]}; another kind is given by `,kind=...`"
        )
    return tuple(inputs.shape)


def _as_tensor(inputs: Any, number: int, asked: _Asked) -> Tensor:
    """Numbers from 0 to 255 become ones from 0 to 1; an image of Pillow's, in RGB, too."""
    if isinstance(inputs, Image.Image):
        inputs = image_tensor(inputs.convert("RGB"))
    if isinstance(inputs, np.ndarray):
        inputs = torch.from_numpy(inputs)
    if not isinstance(inputs, Tensor):
        raise asked.error(f"the inputs of example {number} are no tensor, array or image, but {type(inputs).__name__}")
    if inputs.dtype == torch.uint8:
        inputs = inputs.float() / 255
    if not inputs.is_floating_point() or not inputs.isfinite().all():
        raise asked.error(f"the inputs of example {number} are not all finite numbers of a floating-point type")
    tensor: Tensor = inputs.float()
    return tensor


def _targets(items: Sequence[_Item], asked: _Asked) -> tuple[Tensor, list[str]]:
    """The classes int64 [N] and their names; or the values float [N]; of detection, nothing [N] and the names."""
    if not items:
        raise asked.error("it returns no examples")
    if asked.task == "detection":
        labels = [int(label) for item in items for label in _boxes(item, asked)[1]]
        if not labels:
            raise asked.error("there is no box in any image")
        return torch.zeros(len(items)), [str(number) for number in range(1, max(labels) + 1)]
    plain = [_plain(item, asked) for item in items]
    if asked.task == "regression":
        values = torch.tensor([float(target) for target in plain])
        if not values.isfinite().all():
            raise asked.error("not all targets are finite numbers")
        return values, []
    if all(isinstance(target, str) for target in plain):
        return numbered([str(target) for target in plain], asked.text)
    wrong = next((at for at, target in enumerate(plain) if not isinstance(target, int) or target < 0), None)
    if wrong is not None:
        raise asked.error(
            f"the target of example {items[wrong].number} is {plain[wrong]!r}, no class: a number from 0, or a text "
            "in all examples; values are given by `,task=regression`"
        )
    numbers = torch.tensor(plain)
    if int(numbers.max()) == int(numbers.min()):
        raise asked.error(f"all examples are of one class, {int(numbers[0])}")
    return numbers, [str(number) for number in range(int(numbers.max()) + 1)]


def _plain(item: _Item, asked: _Asked) -> str | int | float:
    target = item.target
    if isinstance(target, Tensor | np.ndarray | np.generic):
        if target.size != 1 if isinstance(target, np.ndarray) else isinstance(target, Tensor) and target.numel() != 1:
            raise asked.error(
                f"the target of example {item.number} has the shape {tuple(target.shape)}, and is to be one"
            )
        target = target.item()
    if not isinstance(target, str | int | float):
        raise asked.error(f"the target of example {item.number} is a {type(target).__name__}, no class and no value")
    return int(target) if isinstance(target, bool) else target


def _boxes(item: _Item, asked: _Asked) -> tuple[Tensor, Tensor]:
    """The boxes, float32 [n, 4], and their labels from 1, int64 [n]. Raises ExperimentError if some are none."""
    place = f"the target of example {item.number}"
    try:
        boxes = torch.as_tensor(item.target["boxes"], dtype=torch.float32).reshape(-1, 4)
        labels = torch.as_tensor(item.target["labels"], dtype=torch.int64).reshape(-1)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        raise asked.error(f"{place} has no boxes [n, 4] and labels [n]: {type(error).__name__}: {error}") from error
    _, height, width = item.content
    limits = torch.tensor([width, height])
    good = len(boxes) == len(labels) and boxes.isfinite().all() and (labels >= 1).all()
    if not (good and (boxes[:, :2] < boxes[:, 2:]).all() and (boxes >= 0).all() and (boxes[:, 2:] <= limits).all()):
        raise asked.error(
            f"{place}: boxes must be left, top, right, bottom in pixels within {width}x{height}, none empty, each "
            "with a label from 1"
        )
    return boxes, labels


def _texts(items: Sequence[_Item], asked: _Asked) -> Texts:
    pairs = [item.content if isinstance(item.content, tuple | list) else (item.content,) for item in items]
    if len({len(pair) for pair in pairs}) != 1 or not all(isinstance(text, str) for pair in pairs for text in pair):
        raise asked.error("inputs must be texts, or pairs of texts in all examples")
    if len(pairs[0]) > 2:
        raise asked.error(f"inputs must be texts or pairs, and have {len(pairs[0])} texts")
    return Texts(
        [pair[0] for pair in pairs], [pair[1] for pair in pairs] if len(pairs[0]) == 2 else None, [""] * len(pairs)
    )
