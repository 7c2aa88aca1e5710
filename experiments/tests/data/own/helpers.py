"""What the tests of one's own data share."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.tests.data.loading import write_folder
from lerac_experiments.data.own.faults import FaultyData
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import Parts, Request, TextEncoding
from lerac_experiments.errors import ExperimentError

REQUEST = Request(encoding=TextEncoding("words", 50))


def load(spec: str, request: Request = REQUEST) -> Parts:
    return find_data(spec).load(request)


def counts(parts: Parts) -> tuple[int, int, int]:
    """Of the examples to train, to validate and to test with."""
    return len(parts.train), len(parts.validation), len(parts.test)


def refused(spec: str, message: str) -> None:
    """It is refused with a message that has this in it, and that a user can mend."""
    with pytest.raises(ExperimentError, match=re.escape(message)) as raised:
        load(spec)
    assert "\n" not in str(raised.value)


def faulty(spec: str, *kinds: str) -> Parts:
    """It is refused with faults of these kinds alone, and goes on without them where that is asked for, which it
    notes. Returns the rest."""
    with pytest.raises(FaultyData) as raised:
        load(spec)
    assert {fault.kind for fault in raised.value.faults} == set(kinds)
    assert "skip-damaged" in str(raised.value)
    rest = load(f"{spec},skip-damaged")
    for fault in raised.value.faults:
        assert rest.left_out[fault.message] == fault.kind
        assert fault.kind in (rest.note or "")
    return rest


def image(
    value: int = 128, size: tuple[int, int] = (8, 8), form: str = "PNG", mode: str = "RGB", **options: object
) -> bytes:
    """An image of one shade."""
    file = io.BytesIO()
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, form, **options)
    return file.getvalue()


def write(folder: Path, contents: dict[str, bytes | str]) -> Path:
    write_folder(folder, {name: text.encode() if isinstance(text, str) else text for name, text in contents.items()})
    return folder
