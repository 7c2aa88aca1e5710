"""The list of the trials of an experiment, as a file."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import Damaged, read_json, write_json
from lerac_experiments.trials.trial import Trial

FILE = "manifest.json"
FORMAT = 1

_UNKNOWN: dict[str, Any] = {"model_source": None, "data_content": None, "similarity_content": None}


@dataclass(frozen=True)
class Manifest:
    """Trials in the order in which they are to be run; each once."""

    name: str
    trials: tuple[Trial, ...]

    def __post_init__(self) -> None:
        ids = [trial.id for trial in self.trials]
        if len(set(ids)) < len(ids):
            twice = next(trial for trial in self.trials if ids.count(trial.id) > 1)
            raise ExperimentError(f"{self.name}: {twice.name} is planned twice")

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self.trials)

    def find(self, ids: Sequence[str]) -> list[Trial]:
        """The trials whose ids begin so.

        Raises:
            ExperimentError: there is none, or more than one.
        """
        found = []
        for wanted in ids:
            matches = [trial for trial in self.trials if trial.id.startswith(wanted)]
            if len(matches) != 1:
                raise ExperimentError(f"{len(matches)} trials of {self.name} have an id that begins with {wanted!r}")
            found += matches
        return found

    def write(self, folder: Path) -> None:
        """Writes the manifest into a folder, which is made.

        Raises:
            ExperimentError: there is another one. Trials may be added to it, not taken away or reordered.
        """
        path = folder / FILE
        kept = list(self.trials)
        if path.exists():
            before = Manifest.read(folder)
            if [trial.id for trial in self.trials[: len(before)]] != [trial.id for trial in before]:
                changed = self._changed(before)
                raise ExperimentError(
                    f"{path} plans other trials{changed}: plan into another folder, or remove that one"
                )
            # A trial that was part of a grid stays so: no id holds it.
            grids = {trial.id: trial.grid for trial in before}
            kept = [trial if trial.grid else replace(trial, grid=grids.get(trial.id, ())) for trial in kept]
        folder.mkdir(parents=True, exist_ok=True)
        trials = [trial.to_json() for trial in kept]
        write_json(path, {"format": FORMAT, "name": self.name, "trials": trials})

    def _changed(self, before: "Manifest") -> str:
        """What of one's own, or which settings, are not as they were, if that is why trials are others."""
        for trial, planned in zip(self, before, strict=False):
            if trial.id != planned.id and replace(trial, **_UNKNOWN).id == replace(planned, **_UNKNOWN).id:
                what = f"the data {trial.data}"
                if trial.model_source != planned.model_source:
                    what = f"the source of {trial.model}"
                elif trial.similarity_content != planned.similarity_content:
                    what = f"the file {trial.protocol.class_similarity}"
                return f", as {what} has changed since"
            if trial.name == planned.name and (differences := _differences(trial, planned)):
                return f", with {', '.join(differences)}"
        return ""

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Reads the manifest of a folder.

        Raises:
            ExperimentError: there is none, or it is damaged.
        """
        path = folder / FILE
        try:
            content = read_json(path)
            if content["format"] != FORMAT:
                raise ExperimentError(f"{path} has format {content['format']!r}, not {FORMAT}: plan anew")
            return cls(str(content["name"]), tuple(Trial.from_json(trial) for trial in content["trials"]))
        except FileNotFoundError:
            raise ExperimentError(f"{path} does not exist: `lerac-fast plan {folder} ...` writes one") from None
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise ExperimentError(f"{path} is damaged: {type(error).__name__}: {error}") from error
        except Damaged:
            raise
        except ExperimentError as error:
            raise ExperimentError(f"{path}: {error}") from error


def _differences(trial: Trial, planned: Trial) -> list[str]:
    """The first settings in which a trial is another than the one that was planned."""
    ours, theirs = ({**asdict(each.settings), **asdict(each.protocol)} for each in (trial, planned))
    differing = (name for name in ours if ours[name] != theirs[name])
    return [f"{name}={theirs[name]} instead of {ours[name]}" for name in islice(differing, 3)]
