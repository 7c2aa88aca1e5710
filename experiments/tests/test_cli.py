"""The command line: help, and errors that name the value."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lerac_experiments.cli import COMMANDS, main
from lerac_experiments.data import fashion_mnist
from lerac_experiments.data.registry import DATA
from lerac_experiments.models import MODELS
from lerac_experiments.presets import PRESETS
from lerac_experiments.training.regimes import REGIMES
from lerac_fast import build_info

DIGITS = ("demo", "--data", "digits")


def test_help_lists_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    for args, expected in (
        (["--help"], ("demo", "demo noise", "info")),
        (["demo", "--help"], ("--data", "--seeds", "--threads", "--output", "lerac-fast demo noise")),
        (["demo", "noise", "--help"], ("lerac-fast demo noise", "--data", "--seeds")),
    ):
        with pytest.raises(SystemExit) as left:
            main(args)
        assert left.value.code == 0
        printed = capsys.readouterr().out
        for text in expected:
            assert text in printed


def test_what_help_says_of_a_command_is_what_the_command_says() -> None:
    for entry in COMMANDS.values():
        assert (entry.load().__doc__ or "").splitlines()[0] == entry.description


@pytest.mark.parametrize("columns", ["80", "60"])
def test_names_to_be_copied_are_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["list"]) == 0
    words = capsys.readouterr().out.split()
    assert {*MODELS, *DATA, *REGIMES, *PRESETS} <= set(words)
    assert not any("…" in word for word in words)


def run_in(environment: dict[str, str], *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lerac_experiments.cli", *args],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_an_encoding_that_lacks_characters_ends_no_command(tmp_path: Path) -> None:
    """Where it does, that is found out at the end, when results are printed."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    record = Path(__file__).parents[2] / "docs" / "results" / "small" / "records.jsonl"
    lines = [line for line in record.read_text().splitlines() if '"minilm"' in line]
    place = tmp_path / os.fsdecode(b"caf\xe9")  # in Latin-1: no UTF-8
    place.mkdir()
    (place / "records.jsonl").write_text("\n".join(lines))
    run = run_in(environment, "report", str(place / "records.jsonl"))
    assert run.returncode == 0, run.stderr
    assert "83.19 +- 0.88" in run.stdout
    assert "15 of 15 trials have ended. The report is in " in run.stdout
    assert run_in(environment, "plan", str(place / "mine"), "--models", "lenet", "--data", "digits").returncode == 0
    run = run_in(environment, "plan", str(place / "mine"), "--models", "caf\u00e9", "--data", "digits")
    assert run.returncode == 1
    assert "model 'caf?' is unknown" in run.stderr


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert json.loads(capsys.readouterr().out) == build_info()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["demo", "--data", "cifar"], "'cifar'"),
        (["demo", "--seeds", "0"], "seeds must be at least 1, got 0"),
        (["demo", "--seeds", "two"], "'two'"),
        (["demo", "noise", "--threads", "0"], "threads must be at least 1, got 0"),
        (["demo", "noise", "--lerac-epochs", "1"], "--lerac-epochs"),
        (["run", "x", "--checkpoint-seconds", "nan"], "checkpoint_seconds must be at least 0, got nan"),
        (["demo", "nose"], "nose"),
        (["demo", "--seeds", "1", "noise"], "noise"),
        (["dome"], "dome"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(args)
    assert left.value.code == 2
    # tyro frames its messages and breaks their lines.
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def assert_fails(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert main(args) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("lerac-fast: error: ")
    assert message in errors
    assert "Traceback" not in errors


def test_damaged_data(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    args = ["demo", "--output", str(tmp_path / "demo")]
    assert_fails(capsys, args, f"cannot read {tmp_path / 'train-images-idx3-ubyte.gz'}")


def test_the_output_folder_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert_fails(capsys, [*DIGITS, "--output", str(path)], str(path))


def test_tables_are_whole_in_a_pipe() -> None:
    """A pipe has no width: names are not broken at the 80 characters of a terminal that is not there."""
    command = [sys.executable, "-m", "lerac_experiments.cli", "list"]
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert max(map(len, printed.splitlines())) > 80
