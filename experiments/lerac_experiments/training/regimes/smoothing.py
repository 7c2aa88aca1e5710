"""Curriculum by smoothing, as an ingredient."""

from lerac_experiments.training.phases import SMOOTHING_WINDOW
from lerac_experiments.training.regimes.ingredient import Ingredient, Setup
from lerac_fast import CBS


class Smoothing(Ingredient):
    """Curriculum by smoothing, narrowed by optimizer steps: `cbs_every` may be a part of an epoch."""

    def __init__(self, setup: Setup) -> None:
        settings = setup.trial.settings
        every = max(1, setup.steps(settings.cbs_every))
        self.kept = self.smoothing = CBS(
            setup.model, settings.sigma, settings.decay, every, SMOOTHING_WINDOW, where=setup.smoothing
        )

    def on_step(self) -> None:
        self.smoothing.step()

    def trace(self) -> dict[str, float]:
        return {"sigma": self.smoothing.sigma if self.smoothing.active else 0.0}
