"""The command `lerac-fast plan`: writes the manifest of an experiment."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypedDict, get_type_hints

import tyro
from rich.markup import escape
from rich.table import Table

from lerac_experiments.data.registry import find_data
from lerac_experiments.options import find, require_at_least, shown
from lerac_experiments.plans.check import check
from lerac_experiments.plans.grid import expanded, parse_grid
from lerac_experiments.plans.rehearsal import rehearse
from lerac_experiments.plans.scaling import SCALES, scaled
from lerac_experiments.presets import PRESETS
from lerac_experiments.presets.combinations import RUNS, trials_of
from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.terminal import say, stdout, table
from lerac_experiments.training.regimes import REGIMES
from lerac_experiments.trials.changes import similarity_content
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.trial import Trial

_WHOLE = 30
"""Characters up to which the name of data is not broken in a table."""


def given(kind: type, hint: Callable[[Any], str]) -> Any:
    """For tyro: a dictionary of those fields of a dataclass that are given on the command line.

    So an option that is given is told from one that is not, even where it has the usual value.

    Args:
        kind: its docstring explains the fields, under "Attributes".
        hint: what help says of a field's value if it is not given, by its default.
    """
    types = get_type_hints(kind)
    options = {
        each.name: Annotated[types[each.name], tyro.conf.arg(help_behavior_hint=f"({hint(each.default)})")]
        for each in fields(kind)
    }
    made = TypedDict(kind.__name__, options, total=False)  # type: ignore[misc]
    made.__doc__ = kind.__doc__
    return Annotated[made, tyro.conf.arg(name="")]


if TYPE_CHECKING:
    GivenSettings: TypeAlias = dict[str, Any]
    GivenProtocol: TypeAlias = dict[str, Any]
else:
    GivenSettings = given(Settings, lambda _: "if not given: the model's")
    GivenProtocol = given(Protocol, lambda usual: f"usual: {shown(usual)}")


@dataclass(frozen=True)
class Plan:
    """Write the manifest of an experiment: every combination of models, data sets, regimes and seeds, or a preset."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where the experiment is kept. If there is a manifest, trials may be added to it: more seeds, say."""
    preset: str | None = None
    """The trials of a table or figure, such as table2 (LeRaC) or dcl-table1 (data parameters); `lerac-fast list`
    prints all."""
    models: tuple[str, ...] = ()
    """Names of models, which `lerac-fast list` prints; or FILE.py:FUNCTION or package.module:FUNCTION, which is called
    with what it has parameters for (input_shape, channels, classes, vocabulary, max_length, task) and returns an
    nn.Module; or timm:NAME, torchvision:NAME, transformers:NAME. Options follow after commas, without spaces:
    timm:resnet10t,pretrained; model.py:make,width=32."""
    data: tuple[str, ...] = ()
    """Names of data sets, or data of your own (images:DIR, texts:FILE, ...): `lerac-fast data` shows what is read."""
    regimes: tuple[str, ...] = ()
    """Names of regimes: conventional and lerac, if none is given; of a preset, those of its regimes to keep."""
    seeds: int | None = None
    """How often each is trained: 5 times, if not given; of a preset, the most of its seeds to keep."""
    scale: float | None = None
    """Shorten everything by this factor, such as 0.02: examples and epochs, and k, u, warm-up and patience with the
    epochs. At least 2 epochs, and 10 examples of each part, are left."""
    rehearse: bool = True
    """Take a training step with models and data that are not this package's, before anything is written."""
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING=VALUE,...")] = ()
    """Train every combination of these settings, such as lerac-epochs=2,3,5 min-lr=1e-6,1e-8; each regime with those
    that it knows. The report chooses by the validation part, for each regime, and compares the chosen alone."""
    settings: GivenSettings = field(default_factory=dict)
    protocol: GivenProtocol = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset is None and not (self.models and self.data):
            raise ValueError("give a preset, or models and data")
        if self.preset is not None and (self.models or self.data):
            raise ValueError(f"preset={self.preset} has models and data of its own: give either it or them")
        require_at_least(self, seeds=1)
        if self.scale is not None and self.scale not in SCALES:
            raise ValueError(f"scale must be {SCALES.told(self.scale)}, got {self.scale:g}")

    def run(self) -> None:
        """Writes the manifest.

        Raises:
            ExperimentError: a name is unknown, a model does not take the data, or the folder holds another manifest.
        """
        trials = self.trials()
        tried = rehearse(trials) if self.rehearse else []
        manifest = Manifest(self.preset or self.folder.name, tuple(trials))
        manifest.write(self.folder)
        console = stdout()
        console.print(_summary(manifest))
        for remark in (*tried, *_remarks(manifest)):
            say(console, remark)
        say(console, f"`lerac-fast run {self.folder}` runs them.")

    def trials(self) -> list[Trial]:
        """What it plans, checked but not tried.

        Raises:
            ExperimentError: as `run`.
        """
        trials = expanded(self._trials(), parse_grid(self.grid))
        if "mix_up" not in self.protocol:
            trials = mixed_alike(trials)
        if self.scale is not None:
            trials = [scaled(trial, self.scale) for trial in trials]
        for trial in trials:
            check(trial)
        return [replace(trial, similarity_content=similarity_content(trial)) for trial in trials]

    def _trials(self) -> list[Trial]:
        if self.preset is None:
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


def mixed_alike(trials: Sequence[Trial]) -> list[Trial]:
    """Without mix-up on data where one of the regimes cannot have it: what is compared is augmented alike."""
    unmixed = _with_temperatures_where_mixed(trials)
    return [
        replace(trial, protocol=replace(trial.protocol, mix_up=False)) if trial.data in unmixed else trial
        for trial in trials
    ]


def _with_temperatures_where_mixed(trials: Iterable[Trial]) -> list[str]:
    """The data that would be mixed but for a regime."""
    names = (
        trial.data
        for trial in trials
        if find_data(trial.data).mixes and trial.protocol.augment and find(REGIMES, trial.regime, "regime").temperatures
    )
    return list(dict.fromkeys(names))


def _remarks(manifest: Manifest) -> list[str]:
    """What is to be known of a plan that does what was asked for."""
    remarks = [
        f"{name}: mix-up is off for every regime, as mixed examples have no temperatures of their own."
        for name in _with_temperatures_where_mixed(manifest)
    ]
    outlasting = dict.fromkeys(
        f"{trial.model}, {trial.regime}: {phase.title} lasts {phase.epochs(trial):g} of at most "
        f"{trial.settings.epochs} epochs, by {phase.option}={getattr(trial.settings, phase.option):g}: what is tested "
        "is still under it."
        for trial in manifest
        for phase in REGIMES[trial.regime].phases
        if not phase.must_end and phase.outlasts(trial, trial.settings.epochs)
    )
    return [*remarks, *outlasting]


def _names(manifest: Manifest) -> tuple[list[str], list[str]]:
    """Of the models, and of the data."""
    return [trial.model for trial in manifest], [trial.data for trial in manifest]


def _summary(manifest: Manifest) -> Table:
    title = f"{escape(manifest.name)}: {len(manifest)} trials"
    are_short = [all(len(name) <= _WHOLE for name in names) for names in _names(manifest)]
    whole = sum(are_short) if are_short[0] else 0
    made = table("model", "data", "regimes", "seeds", "epochs at most", title=title, whole=whole)
    rows: dict[tuple[str, str], list[Trial]] = {}
    for trial in manifest:
        rows.setdefault((trial.model, trial.data), []).append(trial)
    for (model, data), trials in rows.items():
        regimes = ", ".join(dict.fromkeys(trial.regime for trial in trials))
        seeds = len({trial.seed for trial in trials})
        made.add_row(
            escape(model), escape(data), regimes, str(seeds), str(max(trial.settings.epochs for trial in trials))
        )
    made.caption = _unusual(manifest) or None
    return made


def _unusual(manifest: Manifest) -> str:
    """The options of the protocol that are not the usual ones: given, or a preset's own."""
    usual = asdict(Protocol())
    values = {name: list(dict.fromkeys(getattr(trial.protocol, name) for trial in manifest)) for name in usual}
    return "; ".join(
        f"{name.replace('_', '-')}: {' or '.join(map(shown, found))}"
        for name, found in values.items()
        if found != [usual[name]]
    )
