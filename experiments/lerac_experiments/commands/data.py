"""The command `lerac-fast data`: what is read of a data set, and how it is divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lerac_experiments.data.examples import Examples
from lerac_experiments.data.own.faults import SKIP, FaultyData, counted
from lerac_experiments.data.own.places import find_place
from lerac_experiments.data.own.readers import READERS
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import DataSet, Parts, Request, TextEncoding
from lerac_experiments.errors import ExperimentError
from lerac_experiments.options import require_at_least
from lerac_experiments.terminal import say, stdout, table

_TOKENS = 200
"""Of a text, whose examples are shown as a model of words reads them."""
_NAMES = 10
"""How many of those left out are named, for each reason, unless all are asked for."""
_CLASSES = 40


@dataclass(frozen=True)
class ShowData:
    """Show what is read of a data set, how it is divided, its classes and some examples, before anyone trains."""

    data: Annotated[str, tyro.conf.Positional]
    """The name of a data set, or data of your own: images:DIR, texts:FILE, sounds:DIR, boxes:DIR or table:FILE, with
    options after commas, such as images:photos,size=96. `lerac-fast list` prints the names."""
    examples: int = 5
    """How many of those to train with are shown."""
    all: bool = False
    """Name all files and rows that are left out or damaged, not the first ten of a kind."""
    split_seed: int = 0
    """Decides what is set aside. Trials have 0."""

    def __post_init__(self) -> None:
        require_at_least(self, examples=0, split_seed=0)

    def run(self) -> None:
        """Prints it.

        Raises:
            ExperimentError: there is no such data, it cannot be read, or some of it is damaged.
        """
        data, console = find_data(self.data), stdout()
        request = Request(
            split_seed=self.split_seed,
            augment_seed=None,
            encoding=TextEncoding("words", _TOKENS) if data.kind == "text" else None,
        )
        try:
            parts, faults = data.load(request), []
        except FaultyData as error:
            faults = error.faults
            _say(console, f"{counted(faults)}:")
            self._name(console, [fault.message for fault in faults])
            parts = find_data(f"{self.data},{SKIP}").load(request)
            _say(console, f"The rest, as `{self.data},{SKIP}` would be trained with:")
        self._show(console, data, parts)
        if faults:
            raise ExperimentError(
                f"{self.data} is not trained with: it has {counted(faults)}. Mend them, or add `,{SKIP}`"
            )

    def _show(self, console: Console, data: DataSet, parts: Parts) -> None:
        place = _place(self.data)
        _say(console, f"{parts.task} of {data.kind} data, read from {place or parts.source}")
        if parts.note:
            _say(console, f"Note: {parts.note}")
        if data.fingerprint is not None:
            _say(console, f"Fingerprint: {data.fingerprint()}")
        console.print(_counts(parts))
        for index in _spread(len(parts.train), self.examples):
            _say(console, f"train {index}: {_target(parts, parts.train, index)} <- {parts.train.told(index)}")
        reasons: dict[str, list[str]] = {}
        for name, reason in parts.left_out.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            _say(console, f"Left out: {reason} ({len(names):,})")
            self._name(console, names)

    def _name(self, console: Console, names: Sequence[str]) -> None:
        shown = names if self.all else names[:_NAMES]
        for name in shown:
            _say(console, f"  {name}")
        if len(shown) < len(names):
            _say(console, f"  ... and {len(names) - len(shown):,} more, which --all names")


def _place(data: str) -> Path | None:
    """Where data of one's own lies; None for other data, and functions."""
    spec = Spec.parse(data) if data.partition(":")[0] in READERS else None
    return None if spec is None else find_place(spec.place)


def _say(console: Console, line: str) -> None:
    say(console, _printable(line))


def _printable(text: str) -> str:
    """What names and texts hold that would move the terminal's cursor, or break a line, is written as in Python."""
    return "".join(c if c.isprintable() or not c.isascii() else repr(c)[1:-1] for c in text)


def _spread(count: int, wanted: int) -> list[int]:
    """So many numbers below `count`, as far from each other as they can be."""
    return sorted({round(at) for at in torch.linspace(0, count - 1, min(wanted, count)).tolist()})


def _counts(parts: Parts) -> Table:
    """How many examples there are in each part, of each class; or the range of values."""
    of_parts = [parts.train, parts.validation, parts.test]
    made = table("", "train", "validation", "test")
    made.add_row("examples", *(f"{len(part):,}" for part in of_parts))
    if parts.task == "regression":
        for name, function in (("lowest", torch.min), ("mean", torch.mean), ("highest", torch.max)):
            made.add_row(name, *(f"{float(function(part.targets)):.4g}" for part in of_parts))
        return made
    counts = torch.stack([_labels(parts, part).bincount(minlength=parts.classes) for part in of_parts], dim=1)
    first = int(parts.task == "detection")
    names = parts.class_names or tuple(str(number) for number in range(first, parts.classes))
    rows = list(zip(names, counts[first:].tolist(), strict=True))
    for name, of_class in rows[:_CLASSES]:
        made.add_row(escape(_printable(name)), *(f"{count:,}" for count in of_class))
    if len(rows) > _CLASSES:
        made.add_row(
            f"{len(rows) - _CLASSES:,} more classes",
            *(f"{sum(c):,}" for c in zip(*(of for _, of in rows[_CLASSES:]), strict=True)),
        )
    return made


def _labels(parts: Parts, part: Any) -> Tensor:
    """The class of each example, or of each box."""
    if parts.task != "detection":
        labels: Tensor = part.targets
        return labels
    of_boxes: Tensor = part.box_labels
    return of_boxes


def _target(parts: Parts, part: Examples, index: int) -> str:
    """What is to be predicted of an example."""

    def name(label: int) -> str:
        first = int(parts.task == "detection")
        return parts.class_names[label - first] if parts.class_names else str(label)

    target = part.__getitems__([index]).targets[0]
    if isinstance(target, Tensor):
        return f"{float(target):.4g}" if parts.task == "regression" else name(int(target))
    boxes = [
        f"{name(label)} {[round(edge) for edge in box]}"
        for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True)
    ]
    return f"{len(boxes)} boxes" + (f", {'; '.join(boxes[:3])}" if boxes else "")
