"""The command `lerac-fast list`: what can be planned."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from lerac_fast.experiments.data.registry import DATA
from lerac_fast.experiments.models import MODELS
from lerac_fast.experiments.regimes import REGIMES
from lerac_fast.experiments.trials.presets import PRESETS


@dataclass(frozen=True)
class Catalogue:
    """List the models, data sets, regimes and presets that can be planned."""

    def run(self) -> None:
        """Prints them."""
        console = Console()
        models = _table("models", "of data", "optimizer", "lr .. min_lr", "batch", "epochs", "k")
        for name, spec in MODELS.items():
            s = spec.settings
            rates = f"{s.lr:g} .. {s.min_lr:g}"
            models.add_row(
                name, ", ".join(spec.kinds), s.optimizer, rates, str(s.batch_size), str(s.epochs), f"{s.lerac_epochs:g}"
            )
        data = _table("data sets", "title", "kind")
        for name, source in DATA.items():
            data.add_row(name, source.title, source.kind)
        regimes = _table("regimes", "title")
        for name, regime in REGIMES.items():
            regimes.add_row(name, regime.title)
        presets = _table("presets", "trials")
        for name, make in PRESETS.items():
            presets.add_row(name, str(len(make())))
        for table in (models, data, regimes, presets):
            console.print(table)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column)
    return table
