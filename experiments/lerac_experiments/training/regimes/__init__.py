"""The regimes of training that trials compare.

A regime is a list of ingredients. Each is told of every optimizer step, and may change the batches, the rates, the
model and the loss. To add one, write an `Ingredient`, and a line in `REGIMES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lerac_experiments.data.source import Kind
from lerac_experiments.training.phases import BANDWIDTH, LERAC, SMOOTHING, WARM_UP, Phase
from lerac_experiments.training.regimes.efficient_train import Augmentation, LowFrequencies, RisingAugmentation
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup
from lerac_experiments.training.regimes.label_similarity import SimilarLabels
from lerac_experiments.training.regimes.rates import LeRaCRates, WarmUpCosine
from lerac_experiments.training.regimes.smoothing import Smoothing
from lerac_experiments.training.regimes.temperatures import Temperatures

__all__ = ["REGIMES", "Ingredient", "LeRaCRates", "Regime", "Setup"]


@dataclass(frozen=True)
class Regime:
    """A way to train."""

    title: str
    """As in tables."""
    ingredients: tuple[Callable[[Setup], Ingredient], ...] = ()
    phases: tuple[Phase, ...] = ()
    """Those of its ingredients that come to an end."""
    temperatures: bool = False
    """Whether logits are divided by temperatures that are learned."""
    kinds: tuple[Kind, ...] | None = None
    """Of data that it is for; None, of all."""
    classifies: bool = False
    """Whether it is for classification alone."""

    @property
    def mixes(self) -> bool:
        """Whether batches may be mixed: a mixed example has no temperature of its own."""
        return not self.temperatures


def _lerac(curve: str) -> Regime:
    return Regime(f"LeRaC ({curve} update)", (partial(LeRaCRates.between, curve=curve),), (LERAC,))


def _temperatures(kind: str, *, classes: bool, instances: bool) -> Regime:
    learned = partial(Temperatures, classes=classes, instances=instances)
    return Regime(f"data parameters ({kind})", (learned,), temperatures=True)


_EXPONENTIAL = partial(LeRaCRates.between, curve="exponential")

REGIMES: dict[str, Regime] = {
    "conventional": Regime("conventional"),
    "warm-up+cosine": Regime("warm-up + cosine", (WarmUpCosine,), (WARM_UP,)),
    "lerac": Regime("LeRaC", (_EXPONENTIAL,), (LERAC,)),
    "lerac-linear": _lerac("linear"),
    "lerac-logarithmic": _lerac("logarithmic"),
    "lerac-cosine": _lerac("cosine"),
    "lerac-decades": Regime("LeRaC (decades)", (partial(LeRaCRates.between, curve="decades"),), (LERAC,)),
    "lerac-snr": Regime("LeRaC (from SNR)", (LeRaCRates.from_snr,), (LERAC,)),
    "cbs": Regime("CBS", (Smoothing,), (SMOOTHING,)),
    "cbs+lerac": Regime("CBS + LeRaC", (Smoothing, _EXPONENTIAL), (SMOOTHING, LERAC)),
    "low-frequency": Regime("low-frequency cropping", (LowFrequencies,), (BANDWIDTH,), kinds=("image",)),
    "efficient-train": Regime("EfficientTrain", (RisingAugmentation, LowFrequencies), (BANDWIDTH,), kinds=("image",)),
    "rand-augment": Regime("RandAugment", (Augmentation,), kinds=("image",)),
    "label-similarity": Regime("label similarity", (SimilarLabels,), classifies=True),
    "dp-class": _temperatures("class", classes=True, instances=False),
    "dp-instance": _temperatures("instance", classes=False, instances=True),
    "dp-joint": _temperatures("joint", classes=True, instances=True),
}
"""By their names on the command line."""
