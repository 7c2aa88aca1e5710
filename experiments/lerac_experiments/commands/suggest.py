"""The command `lerac-fast suggest`: rates, k and CBS settings for a model and data, from what is measured on them."""

import math
import shlex
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import tyro

from lerac_experiments.commands.plan import GivenProtocol, GivenSettings
from lerac_experiments.commands.snr import FEWEST_EXAMPLES, first_batch, measure, over_runs
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.registry import find_model
from lerac_experiments.models.usual import LERAC_SHARE, NARROWINGS, SMOOTHING_SHARE
from lerac_experiments.options import require_at_least, shown
from lerac_experiments.plans.check import check
from lerac_experiments.presets.combinations import trials_of
from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.terminal import progress_bar, say, stdout, table
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.loading import shuffled
from lerac_experiments.training.preparation import prepared
from lerac_experiments.training.runner import Machine, Runner
from lerac_experiments.trials.trial import Trial
from lerac_fast.cbs.sites import find_sites
from lerac_fast.lerac.snr import Decay, LayerSignal, decay_rate

LOWEST_RATE = 1e-7
HIGHEST_RATE = {"SGD": 10.0}
"""Of the range test; of other optimizers 1."""
SMOOTHING = 0.9
"""Of the loss: what a step keeps of the mean before it."""
DIVERGED = 1.5
"""Times the lowest loss, at which the range test ends."""
LEAST_FALL = 0.02
"""Of the loss, as a share, below which it did not fall."""
BELOW_BEST = 10.0
"""The rate of the lowest loss is too high to train with: its part that is taken (Smith, 2017, and what is usual)."""

DECADES_PER_DECADE = 3.0
LEAST_DECADES, MOST_DECADES = 3, 7
LEAST_STEPS = 50
"""Of LeRaC."""
MOST_SHARE = 0.4
"""Of the epochs under LeRaC, in the paper."""


@dataclass(frozen=True)
class Proposal:
    """A value of a setting, and why."""

    setting: str
    value: float
    reason: str


@dataclass
class RangeTest:
    """The loss of training steps at rates that rise from step to step."""

    rates: list[float]
    losses: list[float]
    """Smoothed."""
    rises: bool = False
    """Whether it ended because the loss rose."""

    @property
    def best(self) -> int:
        """The step of the lowest loss."""
        return min(range(len(self.losses)), key=self.losses.__getitem__)

    @property
    def fall(self) -> float:
        """From the highest loss before that step, as a share."""
        highest = max(self.losses[: self.best + 1])
        return 1.0 - self.losses[self.best] / highest if highest > 0 else 0.0


@dataclass(frozen=True)
class Suggest:
    """Measure a model on data, and propose learning rates, k of LeRaC and settings of CBS, with the reasons.

    A few hundred training steps: the learning rate is raised from step to step (range test), and the signal-to-noise
    ratio of every layer is measured with random weights. Nothing is written.
    """

    model: Annotated[str, tyro.conf.Positional]
    """A model, as `lerac-fast plan --models` takes it."""
    data: Annotated[str, tyro.conf.Positional]
    """A data set, as `lerac-fast plan --data` takes it."""
    steps: int = 100
    """Of the range test."""
    examples: int = 64
    """How many training examples to measure the signal-to-noise ratio with."""
    draws: int = 2
    """How many random initialisations to measure it with."""
    threads: int | None = None
    """CPU threads; None, as torch has it."""
    settings: GivenSettings = field(default_factory=dict)
    protocol: GivenProtocol = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_at_least(self, steps=20, examples=FEWEST_EXAMPLES, draws=1, threads=1)

    def run(self) -> None:
        """Measures, and prints the proposals and the command that plans with them.

        Raises:
            ExperimentError: a name is unknown, the model does not take the data, or the data cannot be had.
        """
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        protocol = Protocol(**self.protocol)
        trial = trials_of((self.model,), (self.data,), ("conventional",), [0], protocol, **self.settings)[0]
        check(trial)
        proposals = self.proposals(trial)
        console = stdout()
        made = table("setting", "proposal", "why", whole=2)
        for proposal in proposals:
            made.add_row(proposal.setting.replace("_", "-"), shown(proposal.value), proposal.reason)
        console.print(made)
        say(console, f"To compare with these: {self.command(proposals)}")
        say(console, f"To choose among some around them: {self.command(proposals, grid=True)}")

    def proposals(self, trial: Trial) -> list[Proposal]:
        """What is proposed for the trial's model and data; settings that were given are left alone."""
        runner = prepared(trial, Machine(Ranks()))
        with progress_bar(stdout()) as progress:
            rates = rising_rates(trial.settings, self.steps)
            tested = range_test(trial, runner, progress.track(rates, description="Learning rates"))
            draws = progress.track(range(self.draws), description="Signal to noise")
            decay, layers = self._decay(trial, runner, draws)
        return propose(trial, runner, tested, decay, layers, given=frozenset(self.settings))

    def _decay(self, trial: Trial, runner: Runner, draws: Iterable[int]) -> tuple[Decay | None, int]:
        """How the signal-to-noise ratio falls with depth, and over how many layers; None, if it cannot be measured."""
        if runner.parts.task == "detection":
            return None, 0
        spec, parts = find_model(trial.model), runner.parts
        weights = None if spec.pretrained is None else spec.pretrained()
        inputs = first_batch(parts, self.examples).inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers that cannot be measured; there are others
            runs = [measure(spec, parts, inputs, seed, weights) for seed in draws]
        measured = over_runs(runs)
        depths = [layer.depth for layer in measured]
        signals = [LayerSignal(layer.name, layer.depth, layer.snr, layer.entropy) for layer in measured]
        return decay_rate(signals), max(depths) - min(depths)

    def command(self, proposals: Sequence[Proposal], *, grid: bool = False) -> str:
        """The command line that plans with the proposals, or with a grid of k and min_lr around them. Each has a folder
        of its own, for a folder takes no trials with other settings."""
        values = {proposal.setting: proposal.value for proposal in proposals}
        regimes = ["conventional", "lerac", *(["cbs"] if "cbs_every" in values else [])]
        folder = "runs/suggested-grid" if grid else "runs/suggested"
        words = ["lerac-fast", "plan", folder, "--models", self.model, "--data", self.data, "--regimes", *regimes]
        if grid:
            k, least = values.pop("lerac_epochs"), values.pop("min_lr")
            ks = ",".join(f"{k * factor:.2g}" for factor in (0.5, 1, 2))
            words += ["--grid", f"lerac-epochs={ks}", f"min-lr={least:g},{_rounded(math.sqrt(least * values['lr'])):g}"]
        for name, value in {**self.settings, **self.protocol, **values}.items():
            words += _option(name, value)
        return shlex.join(words)


def rising_rates(settings: Settings, steps: int) -> list[float]:
    """Of a range test: geometrically, from one at which nothing moves to one at which almost anything diverges."""
    ratio = HIGHEST_RATE.get(settings.optimizer, 1.0) / LOWEST_RATE
    return [LOWEST_RATE * ratio ** (number / (steps - 1)) for number in range(steps)]


def range_test(trial: Trial, runner: Runner, rates: Iterable[float]) -> RangeTest:
    """Trains a step at each of these rates, until the loss rises with them. The runner is of no use after it."""
    parts, model, tested = runner.parts, runner.model, RangeTest([], [])
    order = shuffled(len(parts.train), "range test", trial.seed)
    size = min(trial.settings.batch_size, len(order))
    model.train()
    mean = 0.0
    for step, rate in enumerate(rates):
        first = step * size % max(1, len(order) - size + 1)
        batch = parts.train.__getitems__(order[first : first + size]).to(runner.ranks.device)
        for group in runner.optimizer.param_groups:
            group["lr"] = rate
        runner.optimizer.zero_grad()
        loss = runner.task.loss(runner.task.forward(model, batch), batch)
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * float(loss.detach())
        smoothed = mean / (1.0 - SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed) or smoothed > DIVERGED * min(tested.losses, default=math.inf):
            tested.rises = True
            break
        tested.rates.append(rate)
        tested.losses.append(smoothed)
        loss.backward()
        runner.optimizer.step()
    if not tested.losses:
        raise ExperimentError(f"{trial.model} on {trial.data}: the first training loss is not finite")
    return tested


def propose(
    trial: Trial, runner: Runner, tested: RangeTest, decay: Decay | None, layers: int, given: frozenset[str]
) -> list[Proposal]:
    """The proposals, from what was measured."""
    settings = trial.settings
    rate = _rate(settings, tested) if "lr" not in given else Proposal("lr", settings.lr, "as given")
    falls, decades = _fall(decay, layers)
    proposals = [
        rate,
        _least_rate(rate.value, decay, layers, falls, decades),
        _k(settings, runner.steps_per_epoch, falls),
        *_smoothing(trial, runner),
    ]
    return [
        Proposal(each.setting, getattr(settings, each.setting), "as given") if each.setting in given else each
        for each in proposals
    ]


def _rate(settings: Settings, tested: RangeTest) -> Proposal:
    best = tested.rates[tested.best]
    if tested.fall < LEAST_FALL:
        return Proposal(
            "lr",
            settings.lr,
            f"the usual: the loss did not fall in {len(tested.losses)} steps at rates of {LOWEST_RATE:g} to "
            f"{tested.rates[-1]:.2g}; more --steps may tell",
        )
    ended = "it rises" if tested.rises else "nothing was tried"
    return Proposal(
        "lr",
        _rounded(best / BELOW_BEST),
        f"a tenth of {best:.2g}, where the loss is lowest as the rate of {settings.optimizer} rises (it fell by "
        f"{100 * tested.fall:.0f}%, and beyond {tested.rates[-1]:.2g} {ended})",
    )


def _fall(decay: Decay | None, layers: int) -> tuple[bool, float]:
    """Whether the signal-to-noise ratio falls with depth, and by how many decades from the first layer to the last."""
    decades = 0.0 if decay is None else decay.rate * layers / math.log(10.0)
    return decades > math.log10(2.0), decades


def _least_rate(lr: float, decay: Decay | None, layers: int, falls: bool, decades: float) -> Proposal:
    wanted = min(MOST_DECADES, max(LEAST_DECADES, round(DECADES_PER_DECADE * decades)))
    value = float(f"{lr * 10.0**-wanted:.2g}")
    if decay is None:
        why = "images of various sizes make no batch to measure with: seven decades below lr, as the paper's ResNets"
        return Proposal("min_lr", float(f"{lr * 10.0**-MOST_DECADES:.2g}"), why)
    if not falls:
        return Proposal(
            "min_lr",
            value,
            f"{wanted} decades below lr, the least of the paper: the signal-to-noise ratio does not fall with depth "
            f"({decay.rate:+.2f} per layer, r² = {decay.r_squared:.2f}), which is what LeRaC is for: expect little",
        )
    return Proposal(
        "min_lr",
        value,
        f"{wanted} decades below lr: the signal-to-noise ratio falls by a factor of {10.0**decades:.0f} over {layers} "
        f"layers (r² = {decay.r_squared:.2f}), and the paper's rates span three times the decades that it does in its "
        f"networks, {LEAST_DECADES} to {MOST_DECADES}",
    )


def _k(settings: Settings, steps_per_epoch: int, falls: bool) -> Proposal:
    share = LERAC_SHARE if falls else LERAC_SHARE / 2
    least = min(LEAST_STEPS / steps_per_epoch, MOST_SHARE * settings.epochs)
    value = max(share * settings.epochs, least)
    why = f"{100 * value / settings.epochs:.0f}% of {settings.epochs} epochs; the paper's are 4% to 40%"
    if value > share * settings.epochs:
        enough = value * steps_per_epoch >= LEAST_STEPS
        why += f". That is {value * steps_per_epoch:.0f} steps, "
        why += "in which rates can rise smoothly" if enough else "which is few: train for more epochs"
    return Proposal("lerac_epochs", float(f"{value:.2g}"), why)


def _smoothing(trial: Trial, runner: Runner) -> list[Proposal]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of there being none
        sites = len(find_sites(runner.model, find_model(trial.model).sites(runner.model)))
    if not sites:
        return []
    settings = trial.settings
    every = float(f"{SMOOTHING_SHARE * settings.epochs / NARROWINGS:.2g}")
    return [
        Proposal("sigma", 1.0, f"the paper's; CBS smooths after {sites} modules of this model"),
        Proposal("decay", 0.9, f"the paper's; after {NARROWINGS} times a Gaussian is the identity in float32"),
        Proposal("cbs_every", every, f"CBS retires after {100 * SMOOTHING_SHARE:.0f}% of the epochs, as in its paper"),
    ]


def _rounded(rate: float) -> float:
    """To one digit."""
    return float(f"{rate:.1g}")


def _option(name: str, value: Any) -> list[str]:
    """An option of `lerac-fast plan`."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", *shown(value).split(" ")]
