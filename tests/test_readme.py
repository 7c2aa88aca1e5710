"""The README's Python: every block runs, in order, as it would be typed into one session."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.utils.data import DataLoader, TensorDataset

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
EPOCHS = 2


class Model(nn.Module):
    """With what the blocks name: convolutions of a ResNet, a transformer encoder and an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.layer1 = nn.ModuleList([nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 3, padding=1)})])
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.fc = nn.Linear(4, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.layer1[0]["conv1"](self.conv1(images).relu()).relu()
        tokens, _ = self.lstm(self.encoder(maps.flatten(2).mT))
        return self.fc(tokens.mean(1))


def trained(model: nn.Module) -> torch.optim.Optimizer:
    """torch's AdamW with one group and states, and gradients that are gone again."""
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 6, 6)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def session() -> dict[str, Any]:
    """The names that a reader of the README has: a model, its data, the schedulers of torch and one of each."""
    torch.manual_seed(0)
    dataset = TensorDataset(torch.randn(8, 3, 6, 6), torch.arange(8))
    parameter = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    model = Model()
    return {
        "model": model,
        "saved": trained(model).state_dict(),
        "criterion": nn.CrossEntropyLoss(),
        "dataset": dataset,
        "loader": DataLoader(dataset, batch_size=4),
        "k": 4,
        "T": 10,
        "one_cycle": OneCycleLR(parameter, 0.1, total_steps=10),
        "plateau": ReduceLROnPlateau(parameter),
        "validation_loss": 1.0,
        **{kind.__name__: kind for kind in (ChainedScheduler, CosineAnnealingLR, SequentialLR, StepLR)},
    }


# Schedulers step here without their optimizers.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_all_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) > 5
    names = session()
    for number, block in enumerate(BLOCKS):
        # The one change: epochs enough to see the loop run.
        code = re.sub(r"range\(200\)", f"range({EPOCHS})", block)
        try:
            exec(compile(code, f"README.md, block {number}", "exec"), names)
        except Exception as error:
            pytest.fail(f"README.md, block {number}: {type(error).__name__}: {error}\n\n{block}")
