"""The commands `lerac-fast demo` and `lerac-fast demo noise`: a small preset, planned, run and reported in one go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lerac_experiments.commands.report import Report
from lerac_experiments.commands.run import Run
from lerac_experiments.data.fashion_mnist import load_fashion_mnist
from lerac_experiments.errors import Unavailable
from lerac_experiments.options import require_at_least
from lerac_experiments.presets.small import DEMO_DATA, demo, demo_noise
from lerac_experiments.terminal import say, stdout
from lerac_experiments.trials.manifest import Manifest


@dataclass(frozen=True)
class Demo:
    """Train a small residual network on real images, conventionally and with each curriculum, and compare.

    `lerac-fast demo noise` is a demonstration of its own: data parameters against wrong labels.
    """

    data: Literal["auto", "fashion-mnist", "digits"] = "auto"
    """Fashion-MNIST (Debian's package, else a download) or scikit-learn's digits. auto: digits only where
    Fashion-MNIST cannot be had."""
    seeds: int = 3
    """How often each is trained. Three times take two minutes."""
    threads: int = 1
    """CPU threads. One is steady where others use the machine too."""
    output: Path = Path("runs/demo")
    """The folder of the experiment. What has been trained there is not trained again."""

    trials = staticmethod(demo)

    def __post_init__(self) -> None:
        require_at_least(self, seeds=1, threads=1)

    def run(self) -> None:
        """Plans, trains, and reports.

        Raises:
            ExperimentError: no data, damaged data, or another experiment in the folder.
            OSError: the folder cannot be written to.
        """
        Manifest(self.output.name, tuple(self.trials(self._data(), self.seeds))).write(self.output)
        Run(self.output, threads=self.threads).run()
        Report((self.output,)).run()

    def _data(self) -> str:
        if self.data != "auto":
            return self.data
        try:
            load_fashion_mnist()
        except Unavailable as error:
            say(stdout(), f"Digits instead of Fashion-MNIST: {error}")
            return "digits"
        return DEMO_DATA


@dataclass(frozen=True)
class Noise(Demo):
    """Train a small residual network on images with wrong labels, with and without data parameters, and compare."""

    seeds: int = 1
    """How often each is trained: once takes two minutes."""
    output: Path = Path("runs/noise")

    trials = staticmethod(demo_noise)
