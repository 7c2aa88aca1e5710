"""Lightning's DDP in two processes: rates are a plain loop's, weights those of torch's AdamW, also when resumed."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lerac_fast.optim
from tests.integrations.launching import set_environment
from tests.integrations.test_lightning import STEPS_PER_EPOCH, Module, fit, plain_rates
from tests.processes import Processes

pytest.importorskip("lightning.pytorch")


def train(
    rank: int, folder: Path, optimizer: type[torch.optim.Optimizer], checkpoint: str | None
) -> tuple[list[list[float]], list[Tensor]]:
    """The rates of each step, and the weights that the rank ends with."""
    from lightning.pytorch import callbacks

    set_environment(rank, 2)
    os.environ["TORCHELASTIC_RUN_ID"] = "as if torchrun had started them"
    parts = {"devices": 2, "strategy": "ddp", "enable_checkpointing": True, "checkpoint": checkpoint}
    saving = callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    with warnings.catch_warnings():  # Lightning's, which pytest's marks do not keep from this process
        warnings.simplefilter("ignore")
        module = fit(folder, saving, module=Module(optimizer), **parts)
    return module.rates, [parameter.detach() for parameter in module.parameters()]


def test_as_with_torchs_optimizer_and_resumed(two: Processes, tmp_path: Path) -> None:
    ours = two.run(train, tmp_path, lerac_fast.optim.AdamW, None)
    torchs = two.run(train, tmp_path / "torch", torch.optim.AdamW, None)
    for rates, weights in ours:
        assert rates == torchs[0][0] == plain_rates()
        assert all(map(torch.equal, weights, ours[0][1]))
        torch.testing.assert_close(weights, torchs[0][1], rtol=1e-5, atol=1e-5)
    resumed = two.run(train, tmp_path, lerac_fast.optim.AdamW, str(tmp_path / "epoch=0.ckpt"))
    for (rates, weights), straight in zip(resumed, ours, strict=True):
        assert rates == straight[0][STEPS_PER_EPOCH:]
        assert all(map(torch.equal, weights, straight[1]))
