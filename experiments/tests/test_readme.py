"""The README of the experiments: its commands are understood, and its function is a model."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.tests.models.samples import CLASSES, sample_parts
from lerac_experiments.cli import COMMANDS as ENTRIES
from lerac_experiments.cli import main
from lerac_experiments.models.registry import find_model

README = Path(__file__).parents[1] / "README.md"
COMMANDS = [
    shlex.split(command, comments=True)[1:]
    for block in re.findall(r"^```\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    for command in line.split("&&")
    if command.strip().startswith("lerac-fast ")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_are_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    monkeypatch.setattr(ENTRIES[words[0]].load(), "run", lambda command: done.append(command))
    assert main(words) == 0
    assert len(done) == 1
    for model in getattr(done[0], "models", ()):
        find_model(model)


def test_the_function_is_a_model(tmp_path: Path) -> None:
    (source,) = re.findall(r"^```python\n# model.py\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "model.py").write_text(source)
    model = find_model(f"{tmp_path / 'model.py'}:make,width=4").make(sample_parts("image"), None)
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, CLASSES)
