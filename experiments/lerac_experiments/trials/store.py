"""What is kept of a trial: its lock, its checkpoints, its record."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import Damaged, read_json, remove_left_over, require_regular, write_json
from lerac_experiments.trials import sealed
from lerac_experiments.trials.record import DONE, FAILED, UNAVAILABLE, check_record
from lerac_experiments.trials.trial import Trial

__all__ = ["DONE", "FAILED", "UNAVAILABLE", "Busy", "Damaged", "TrialFolder"]


class Busy(Exception):
    """Another process is at this trial."""


class TrialFolder:
    """The files of one trial, `FOLDER/trials/ID/`. All are written whole or not at all."""

    def __init__(self, folder: Path, trial: Trial) -> None:
        self.path = folder / "trials" / trial.id
        self.trial = trial

    @property
    def checkpoint_path(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def checkpoint_paths(self) -> tuple[Path, Path]:
        """Of the last checkpoint and the one before it."""
        return self.checkpoint_path, self.path / "checkpoint.previous.pt"

    @property
    def record_path(self) -> Path:
        return self.path / "record.json"

    @property
    def weights_path(self) -> Path:
        return self.path / "weights.pt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the trial; the system lets go of it should the process die.

        Raises:
            Busy: another process holds it.
            ExperimentError: the file system has no locks, or something else is in the lock's place.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock_path = self.path / "lock"
        if lock_path.exists() and not lock_path.is_file():  # versions of filelock differ in what they make of a pipe
            raise ExperimentError(f"{lock_path} is no regular file: remove it")
        lock = FileLock(lock_path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(self.trial.name) from None
        except NotImplementedError as error:
            raise ExperimentError(f"{self.path}: the file system has no locks ({error}): use another folder") from error
        try:
            for path in (self.checkpoint_path, self.weights_path, self.record_path):
                remove_left_over(path)
            yield
        finally:
            lock.release()

    def record(self) -> dict[str, Any] | None:
        """What came of the trial, or None if it has not ended yet.

        Raises:
            Damaged: the record is damaged, or another trial's.
        """
        try:
            record = check_record(read_json(self.record_path))
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise Damaged(f"{error}: {_TO_REPLACE}") from error
        except ExperimentError as error:
            raise Damaged(f"{self.record_path} is damaged ({error}): {_TO_REPLACE}") from error
        if record["trial"]["id"] != self.trial.id:
            raise Damaged(f"{self.record_path} is not of this trial: {_TO_REPLACE}")
        return record

    def record_mark(self) -> str | None:
        """What tells the record from any other; None, if there is none that can be read."""
        try:
            require_regular(self.record_path)
            return hashlib.sha256(self.record_path.read_bytes()).hexdigest()
        except (OSError, Damaged):
            return None

    def write_record(self, record: dict[str, Any]) -> None:
        """Ends the trial."""
        write_json(self.record_path, {"trial": self.trial.to_json(), **record})
        self.remove_unneeded(record)

    def remove_unneeded(self, record: dict[str, Any]) -> None:
        """Its checkpoints are not needed any more if it is done, and of no use if it has diverged."""
        if record["status"] == DONE or record.get("diverged"):
            for path in self.checkpoint_paths:
                path.unlink(missing_ok=True)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes tensors and plain values. What was saved last is kept, as the one before."""
        sealed.save({"trial": self.trial.id, **state}, *self.checkpoint_paths)

    def save_weights(self, state: dict[str, Any]) -> None:
        """Writes the state dict of the model that was tested."""
        sealed.save(state, self.weights_path)

    def load_checkpoint(self, path: Path) -> dict[str, Any] | None:
        """One of `checkpoint_paths`, on the CPU; None if there is none.

        Those of earlier versions have neither a checksum nor the id of their trial, and are taken as they are.

        Raises:
            Damaged: it is, or it is another trial's.
        """
        try:
            state, is_sealed = sealed.load(path)
        except FileNotFoundError:
            return None
        if not isinstance(state, dict):
            raise Damaged(f"{path} is no checkpoint")
        owner = state.pop("trial", None)
        if owner is not None and not is_sealed:
            raise Damaged(f"{path} is damaged: its end is missing")
        if is_sealed and owner != self.trial.id:
            raise Damaged(f"{path} is of the trial {owner}, not of this one, {self.trial.id}")
        return state

    def set_aside(self, path: Path) -> Path:
        """Gives a file that is of no use another name, which is returned, so that it is not read again."""
        aside = path.with_name(f"{path.stem}.aside{path.suffix}")
        path.replace(aside)
        return aside


_TO_REPLACE = "remove it, or give --retry-failed, to run the trial again"
