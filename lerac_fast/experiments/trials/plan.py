"""The command `lerac-fast plan`: writes the manifest of an experiment."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro
from rich.console import Console
from rich.table import Table

from lerac_fast.experiments.data.registry import DATA
from lerac_fast.experiments.errors import ExperimentError
from lerac_fast.experiments.given import given
from lerac_fast.experiments.models import MODELS
from lerac_fast.experiments.models.spec import Settings
from lerac_fast.experiments.options import find
from lerac_fast.experiments.regimes import REGIMES
from lerac_fast.experiments.trials.manifest import Manifest
from lerac_fast.experiments.trials.presets import PRESETS, RUNS, trials_of
from lerac_fast.experiments.trials.trial import Protocol, Trial


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if TYPE_CHECKING:
    GivenSettings: TypeAlias = dict[str, Any]
    GivenProtocol: TypeAlias = dict[str, Any]
else:
    GivenSettings = given(Settings, lambda _: "if not given: the model's")
    GivenProtocol = given(Protocol, lambda usual: f"usual: {_shown(usual)}")


@dataclass(frozen=True)
class Plan:
    """Write the manifest of an experiment: every combination of models, data sets, regimes and seeds, or a preset."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the experiment is kept. If there is a manifest, trials may be added to it: more seeds, say."""
    preset: str | None = None
    """The trials of a table: table2, table3, table4, table5 (LeRaC), dcl-table1, dcl-table2 (data parameters)."""
    models: tuple[str, ...] = ()
    """Names of models; `lerac-fast list` prints them."""
    data: tuple[str, ...] = ()
    """Names of data sets."""
    regimes: tuple[str, ...] = ()
    """Names of regimes: conventional and lerac, if none is given; of a preset, those of its regimes to keep."""
    seeds: int | None = None
    """How often each is trained: 5 times, if not given; of a preset, the most of its seeds to keep."""
    settings: GivenSettings = field(default_factory=dict)
    protocol: GivenProtocol = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset is None and not (self.models and self.data):
            raise ValueError("give a preset, or models and data")
        if self.preset is not None and (self.models or self.data):
            raise ValueError(f"preset={self.preset} has models and data of its own: give either it or them")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")

    def run(self) -> None:
        """Writes the manifest.

        Raises:
            ExperimentError: a name is unknown, a model does not take the data, or the folder holds another manifest.
        """
        trials = self._trials()
        for trial in trials:
            check(trial)
        manifest = Manifest(self.preset or self.folder.name, tuple(trials))
        manifest.write(self.folder)
        console = Console()
        console.print(_summary(manifest))
        console.print(f"`lerac-fast run {self.folder}` runs them.", highlight=False)

    def _trials(self) -> list[Trial]:
        if self.preset is None:
            for name in self.models:
                find(MODELS, name, "model")
            return trials_of(
                self.models,
                self.data,
                self.regimes or ("conventional", "lerac"),
                range(RUNS if self.seeds is None else self.seeds),
                Protocol(**self.protocol),
                **self.settings,
            )
        planned = find(PRESETS, self.preset, "preset")()
        for name in self.regimes:
            find({trial.regime: trial for trial in planned}, name, f"the regime of {self.preset}")
        return [
            replace(
                trial,
                settings=replace(trial.settings, **self.settings),
                protocol=replace(trial.protocol, **self.protocol),
            )
            for trial in planned
            if (not self.regimes or trial.regime in self.regimes) and (self.seeds is None or trial.seed < self.seeds)
        ]


def check(trial: Trial) -> None:
    """Finds what can be found wrong with a trial before it is run.

    Raises:
        ExperimentError: a name is unknown, a value makes no sense, or the model does not take the data.
    """
    spec, data = find(MODELS, trial.model, "model"), find(DATA, trial.data, "data")
    find(REGIMES, trial.regime, "regime")
    spec.check_takes(data)
    if data.kind == "detection" and trial.regime == "lerac-snr":
        raise ExperimentError(f"{trial.data}: images of various sizes make no batch to measure {trial.regime} with")
    settings, protocol = trial.settings, trial.protocol
    for name, value, lowest in (
        ("epochs", settings.epochs, 1),
        ("batch_size", settings.batch_size, 1),
        ("lerac_epochs", settings.lerac_epochs, 0),
        ("weight_decay", settings.weight_decay, 0),
        ("sigma", settings.sigma, 0),
        ("plateau_patience", protocol.plateau_patience, 0),
        ("stop_patience", protocol.stop_patience, 1),
        ("train_examples", protocol.train_examples, 10),
        ("test_examples", protocol.test_examples, 1),
    ):
        if value is not None and not value >= lowest:
            raise ExperimentError(f"{name} must be at least {lowest}, got {value:g}")
    if not 0.0 < settings.min_lr <= settings.lr:
        raise ExperimentError(
            f"min_lr must be above 0 and at most lr, got min_lr={settings.min_lr:g} and lr={settings.lr:g}"
        )
    if not 0.0 < settings.decay <= 1.0:
        raise ExperimentError(f"decay must be above 0 and at most 1, got {settings.decay:g}")
    if not settings.cbs_every > 0.0:
        raise ExperimentError(f"cbs_every must be above 0, got {settings.cbs_every:g}")
    if not all(0.0 < share < 1.0 for share in protocol.milestones):
        raise ExperimentError(
            f"milestones must be above 0 and below 1, as shares of the epochs, got {protocol.milestones}"
        )
    steps, usual = (protocol.milestones, protocol.step_factor), Protocol()
    if protocol.schedule != "steps" and steps != (usual.milestones, usual.step_factor):
        raise ExperimentError(f"milestones and step_factor are for schedule=steps, and it is {protocol.schedule}")
    if not 0.0 < protocol.step_factor <= 1.0:
        raise ExperimentError(f"step_factor must be above 0 and at most 1, got {protocol.step_factor:g}")
    if protocol.augment_images and data.kind != "image":
        raise ExperimentError(f"augment_images is for images, and {trial.data} is {data.kind}")
    if protocol.by_speaker and not data.by_speaker:
        able = ", ".join(name for name, each in DATA.items() if each.by_speaker)
        raise ExperimentError(f"by_speaker is for {able}, and the data is {trial.data}")
    if protocol.nesterov and (settings.optimizer != "SGD" or settings.momentum == 0.0):
        raise ExperimentError(
            f"nesterov is for SGD with momentum, and {trial.model} is trained by {settings.optimizer} with "
            f"momentum {settings.momentum:g}"
        )
    if protocol.label_noise and data.kind == "detection":
        raise ExperimentError(f"label_noise is for classification, and {trial.data} is detection")
    if not 0.0 <= protocol.label_noise < 1.0:
        raise ExperimentError(f"label_noise must be 0 or more and below 1, got {protocol.label_noise:g}")
    if protocol.noise_free and protocol.label_noise == 0.0:
        raise ExperimentError("noise_free is for trials with label_noise")


def _summary(manifest: Manifest) -> Table:
    table = Table(title=f"{manifest.name}: {len(manifest)} trials")
    for column in ("model", "data", "regimes", "seeds", "epochs at most"):
        table.add_column(column)
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in manifest:
        rows.setdefault((trial.model, trial.data), []).append(trial)
    for (model, data), trials in rows.items():
        regimes = ", ".join(dict.fromkeys(trial.regime for trial in trials))
        seeds = len({trial.seed for trial in trials})
        table.add_row(model, data, regimes, str(seeds), str(max(trial.settings.epochs for trial in trials)))
    table.caption = _unusual(manifest) or None
    return table


def _unusual(manifest: Manifest) -> str:
    """The options of the protocol that are not the usual ones: given, or a preset's own."""
    usual = asdict(Protocol())
    values = {name: list(dict.fromkeys(getattr(trial.protocol, name) for trial in manifest)) for name in usual}
    return "; ".join(
        f"{name.replace('_', '-')}: {' or '.join(map(_shown, found))}"
        for name, found in values.items()
        if found != [usual[name]]
    )
