"""Checkpoints: what is damaged or of another trial is set aside; the trial starts from the last good one, or anew."""

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.tests.trials.helpers import (
    Killed,
    die,
    digits_trial,
    on_call,
    outcome,
    planned,
    record_of,
    run,
    undisturbed,
)
from lerac_experiments.files import Damaged
from lerac_experiments.training.runner import Runner
from lerac_experiments.trials import sealed
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial


def interrupted(folder: Path, trial: Trial, steps: int = 8) -> TrialFolder:
    """A trial that was killed before its last step, after the checkpoint before it."""
    planned(folder, trial)
    with pytest.MonkeyPatch.context() as patch:
        on_call(patch, Runner, "_step", steps, die)
        with pytest.raises(Killed):
            run(folder)
    return TrialFolder(folder, trial)


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # among the weights
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _halve(path: Path) -> None:
    """What torch makes of it is an OSError, of a place before the start."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _unseal(path: Path) -> None:
    torch.save(sealed.load(path).state, path)


def _other_content(path: Path) -> None:
    sealed.save({**sealed.load(path).state, "parts": [{}]}, path)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    (path / "content").mkdir(parents=True)


SPOILED: list[Callable[[Path], Any]] = [
    _flip,
    _truncate,
    _halve,
    _unseal,
    _other_content,
    _fifo,
    _folder,
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"damaged"),
    lambda path: torch.save({"model": _Evil()}, path),
    lambda path: torch.save([1, 2], path),
]


@pytest.mark.parametrize("both", [False, True], ids=["the last one", "both"])
@pytest.mark.parametrize("spoil", SPOILED)
def test_what_is_damaged_is_set_aside(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], Any],
    both: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    trial = digits_trial()
    folder = interrupted(tmp_path / "runs", trial)
    for path in folder.checkpoint_paths if both else folder.checkpoint_paths[:1]:
        spoil(path)
    steps: list[int] = []
    step = Runner._step

    def counted(runner: Runner, *args: Any) -> torch.Tensor:
        steps.append(runner.steps_done)
        return step(runner, *args)

    monkeypatch.setattr(Runner, "_step", counted)
    assert run(tmp_path / "runs") == 0
    assert steps[0] == (0 if both else 6), "of 7 steps the last checkpoint but one has 6"
    assert outcome(record_of(tmp_path / "runs", trial)) == undisturbed(digits_trial())
    printed = "".join(capsys.readouterr().out.split())
    assert "".join(str(folder.path / "checkpoint.aside.pt").split()) in printed
    assert (folder.path / "checkpoint.aside.pt").exists()
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_of_another_trial_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = interrupted(tmp_path / "other", digits_trial(seed=1))
    own = interrupted(tmp_path / "runs", digits_trial())
    for path, place in zip(other.checkpoint_paths, own.checkpoint_paths, strict=True):
        path.replace(place)
    assert run(tmp_path / "runs") == 0
    assert outcome(record_of(tmp_path / "runs", digits_trial())) == undisturbed(digits_trial())
    assert f"isofthetrial{digits_trial(seed=1).id},notofthisone" in "".join(capsys.readouterr().out.split())


def test_checkpoints_of_earlier_versions_are_taken(tmp_path: Path) -> None:
    """They have neither a checksum nor an id."""
    folder = interrupted(tmp_path / "runs", digits_trial())
    state = sealed.load(folder.checkpoint_path).state
    del state["trial"]
    torch.save(state, folder.checkpoint_path)
    folder.checkpoint_paths[1].unlink()
    assert run(tmp_path / "runs") == 0
    assert record_of(tmp_path / "runs", digits_trial())["resumed"] == 1
    assert outcome(record_of(tmp_path / "runs", digits_trial())) == undisturbed(digits_trial())


def test_one_killed_between_two_checkpoints_goes_on(tmp_path: Path) -> None:
    """After the last one has become the one before, and ere the new one has taken its place."""
    folder = interrupted(tmp_path / "runs", digits_trial())
    folder.checkpoint_path.replace(folder.checkpoint_paths[1])
    assert run(tmp_path / "runs") == 0
    assert record_of(tmp_path / "runs", digits_trial())["resumed"] == 1
    assert outcome(record_of(tmp_path / "runs", digits_trial())) == undisturbed(digits_trial())


def test_every_change_of_a_file_is_found(tmp_path: Path) -> None:
    """Of each byte; and torch reads the file by itself."""
    path = tmp_path / "state.pt"
    state = {"trial": "0", "weights": torch.arange(5.0), "steps": [1, 2]}
    sealed.save(state, path)
    assert torch.equal(torch.load(path, weights_only=True)["weights"], state["weights"])
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :])
        try:
            loaded = sealed.load(path)
        except Damaged:
            continue
        assert not loaded.sealed, place  # which a checkpoint with an id must be
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            assert not sealed.load(path).sealed
        except Damaged:
            continue


@pytest.mark.parametrize("written", [0, 100, 5_000, 50_000])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_what_ends_the_writing_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, written: int
) -> None:
    """torch would have it as "unexpected pos 64 vs 0"."""
    path = tmp_path / "state.pt"
    sealed.save({"steps": 1}, path)
    before = path.read_bytes()
    count = 0

    def write(file: io.BufferedWriter, content: Any) -> int:
        nonlocal count
        count += len(content)
        if count > written:
            raise error
        return io.BufferedWriter.write(file, content)

    monkeypatch.setattr(sealed._Summing, "write", write)
    with pytest.raises(type(error)) as raised:
        sealed.save({"weights": [torch.ones(8_000), torch.ones(8_000)]}, path)
    if isinstance(error, OSError):
        assert str(raised.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{path}'"
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_told_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = sealed._Summing.__init__
    monkeypatch.setattr(sealed._Summing, "__init__", lambda file, _: original(file, Path("/dev/full")))
    with pytest.raises(OSError, match=r"No space left on device: '.*state\.pt'"):
        sealed.save({"weights": torch.ones(100_000)}, tmp_path / "state.pt")


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path, digits_trial())
    with folder.locked():
        left = [path.with_name(f".{path.name}.123") for path in (folder.checkpoint_path, folder.record_path)]
        for path in left:
            path.touch()
        other = folder.path / ".nfs0001"
        other.touch()
    with folder.locked():
        assert not any(path.exists() for path in left)
        assert other.exists(), "not ours"


def test_an_interrupt_while_a_checkpoint_is_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the trial, which would have failed with what torch makes of it."""
    folder = TrialFolder(planned(tmp_path, digits_trial()), digits_trial())

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        on_call(patch, sealed._Summing, "write", 1_500, interrupt)
        assert run(tmp_path) == 1
    assert f"interrupted: `lerac-fast run {tmp_path}` goes on" in " ".join(capsys.readouterr().err.split())
    assert not folder.record_path.exists()
    assert run(tmp_path) == 0
    assert record_of(tmp_path, digits_trial())["resumed"] == 1
    assert outcome(record_of(tmp_path, digits_trial())) == undisturbed(digits_trial())
