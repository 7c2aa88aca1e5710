"""The command `lerac-fast list`: what can be planned."""

from dataclasses import dataclass

from lerac_experiments.data.own.readers import FUNCTIONS, READERS
from lerac_experiments.data.registry import DATA
from lerac_experiments.models import MODELS
from lerac_experiments.models.registry import FORMS
from lerac_experiments.presets import PRESETS
from lerac_experiments.terminal import stdout, table
from lerac_experiments.training.regimes import REGIMES


@dataclass(frozen=True)
class Catalogue:
    """List the models, data sets, regimes and presets that can be planned."""

    def run(self) -> None:
        """Prints them."""
        console = stdout()
        models = table("models", "of data", "optimizer", "lr .. min_lr", "batch", "epochs", "k", whole=1)
        for name, spec in MODELS.items():
            s = spec.settings
            rates = f"{s.lr:g} .. {s.min_lr:g}"
            models.add_row(
                name, ", ".join(spec.kinds), s.optimizer, rates, str(s.batch_size), str(s.epochs), f"{s.lerac_epochs:g}"
            )
        others = table("other models", "are", whole=1)
        for form, what in FORMS.items():
            others.add_row(form, what)
        data = table("data sets", "title", "kind", whole=1)
        for name, source in DATA.items():
            data.add_row(name, source.title, source.kind)
        own = table("your own data", "read from", "kind", whole=1)
        for reader in READERS.values():
            own.add_row(reader.form, reader.about, reader.kind)
        own.add_row(FUNCTIONS, "torch Datasets that a function of yours returns", "image, kind=...")
        regimes = table("regimes", "title", whole=1)
        for name, regime in REGIMES.items():
            regimes.add_row(name, regime.title)
        presets = table("presets", "trials", whole=1)
        for name, make in PRESETS.items():
            presets.add_row(name, str(len(make())))
        for each in (models, others, data, own, regimes, presets):
            console.print(each)
