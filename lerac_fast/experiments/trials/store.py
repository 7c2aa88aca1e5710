"""What is kept of a trial: its lock, its checkpoint, its record."""

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from lerac_fast.experiments.errors import ExperimentError
from lerac_fast.experiments.files import replacing, write_json
from lerac_fast.experiments.trials.trial import Trial

DONE, FAILED, UNAVAILABLE = "done", "failed", "unavailable"


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
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / "lock", timeout=0):
                for left_over in self.path.glob(".*.pt.*"):  # by a process that was killed while it wrote
                    left_over.unlink()
                yield
        except Timeout:
            raise Busy(self.trial.name) from None

    def record(self) -> dict[str, Any] | None:
        """What came of the trial, or None if it has not ended yet.

        Raises:
            ExperimentError: the record is damaged, or another trial's.
        """
        try:
            record: dict[str, Any] = json.loads(self.record_path.read_text(encoding="utf-8"))
            ours, status = record["trial"]["id"] == self.trial.id, record["status"]
            if ours and status == DONE:
                _ = record["epochs"][0], record["result"]["test"]
            elif ours:
                _ = record["error"]
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError) as error:
            raise ExperimentError(
                f"{self.record_path} is damaged ({error}): remove it to run the trial again"
            ) from error
        if not ours or status not in (DONE, FAILED, UNAVAILABLE):
            raise ExperimentError(f"{self.record_path} is not of this trial: remove it to run the trial again")
        return record

    def write_record(self, record: dict[str, Any]) -> None:
        """Ends the trial. Its checkpoint is not needed any more if it is done, and of no use if it has diverged."""
        write_json(self.record_path, {"trial": self.trial.to_json(), **record})
        if record["status"] == DONE or record.get("diverged"):
            self.checkpoint_path.unlink(missing_ok=True)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes tensors and plain values. What was saved before is there until this is, whole."""
        _save(state, self.checkpoint_path)

    def save_weights(self, state: dict[str, Any]) -> None:
        """Writes the state dict of the model that was tested."""
        _save(state, self.weights_path)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """What was saved last, on the CPU; None if nothing was.

        Raises:
            ExperimentError: the file is damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self.checkpoint_path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise ExperimentError(
                f"{self.checkpoint_path} is damaged ({error}): remove it to start the trial anew"
            ) from error
        return state


def _save(state: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)
