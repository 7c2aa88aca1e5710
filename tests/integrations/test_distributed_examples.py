"""The examples of several processes: what they return, and that they go on from their checkpoints in mid-curriculum."""

import ast
import re
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lerac_fast import LeRaC, layer_groups
from tests.integrations.launching import EXAMPLES, cpu_for_gpus, free_port, run_launched
from tests.processes import Processes


def in_one_process(
    steps: int, batch: int = 64, accumulated: int = 1, max_norm: float = torch.inf
) -> tuple[list[list[float]], list[list[float]]]:
    """What most of the examples do, with torch's AdamW: the rates before the first step and after each; and of each
    step the losses of the halves of the last batch, which are those of two processes.
    """
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32))
    target = torch.randn(32, 32) / 6
    optimizer = torch.optim.AdamW(layer_groups(model, example_inputs=torch.zeros(2, 32)), lr=1e-2)
    curriculum = LeRaC(optimizer, total_iters=20, min_lr=1e-6)
    rates, losses = [curriculum.get_last_lr()], []
    for step in range(steps):
        optimizer.zero_grad()
        for micro in range(accumulated):
            generator = torch.Generator().manual_seed(accumulated * step + micro)
            halves = torch.randn(batch, 32, generator=generator).chunk(2)
            of_halves = [(model(inputs) - (inputs @ target).tanh()).square().mean() for inputs in halves]
            (sum(of_halves) / 2 / accumulated).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        curriculum.step()
        rates.append(curriculum.get_last_lr())
        losses.append([loss.item() for loss in of_halves])
    return rates, losses


def test_fsdp2(two: Processes, tmp_path: Path) -> None:
    def train(folder: str, start: int, end: int) -> list[float]:
        return two.run(run_launched, 2, free_port(), "fsdp2", str(tmp_path / folder), start, end)

    train("parts", 0, 10)
    losses = train("parts", 10, 30)
    assert losses == train("whole", 0, 30)
    assert max(losses) < 0.3


def test_zero_redundancy(two: Processes) -> None:
    _, losses = in_one_process(40)
    assert two.run(run_launched, 2, free_port(), "zero_redundancy") == pytest.approx(losses[-1], rel=1e-3)


def _accelerate(rank: int, ports: tuple[int, int], folder: str, fsdp2: bool) -> tuple[Any, Any]:
    from accelerate.state import AcceleratorState, GradientState

    def run(port: int, resume: bool) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        with cpu_for_gpus() if fsdp2 else nullcontext():
            return run_launched(rank, 2, port, "accelerate_fsdp2", folder, resume)

    return run(ports[0], False), run(ports[1], True)


@pytest.mark.parametrize("fsdp2", [False, True], ids=["as on CPUs", "FSDP2"])
def test_accelerate(two: Processes, tmp_path: Path, fsdp2: bool) -> None:
    pytest.importorskip("accelerate")
    expected, _ = in_one_process(30)
    for (rates, loss), (resumed, same) in two.run(_accelerate, (free_port(), free_port()), str(tmp_path), fsdp2):
        assert rates == expected[1:]
        assert (rates[10:], loss) == (resumed, same)
        assert loss < 0.1
    assert (tmp_path / "pytorch_model_fsdp_0").exists() == fsdp2


def run_command(*command: str) -> str:
    done = subprocess.run([sys.executable, *command], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not find_spec("deepspeed"), reason="deepspeed is not installed")
def test_deepspeed(tmp_path: Path) -> None:
    """By its command, as DeepSpeed compiles at its first use, and warns."""
    said = []
    for resume in ((), ("resume",)):
        launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
        said.append(run_command(*launcher, str(EXAMPLES / "distributed" / "deepspeed_zero.py"), str(tmp_path), *resume))
    found = [sorted(re.findall(r"rank (\d), step (\d+): loss (\S+), rates (\[.*?\])", text)) for text in said]
    assert found[0] == found[1]
    rates, losses = in_one_process(30, batch=32, accumulated=2, max_norm=1.0)
    assert [(rank, step) for rank, step, *_ in found[0]] == [("0", "15"), ("0", "30"), ("1", "15"), ("1", "30")]
    for rank, step, loss, text in found[0]:
        assert float(loss) == pytest.approx(losses[int(step) - 1][int(rank)], abs=1e-3)
        assert ast.literal_eval(text) == rates[int(step)]


@pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")
def test_ray(tmp_path: Path) -> None:
    said = run_command(str(EXAMPLES / "distributed" / "ray_train.py"), str(tmp_path))
    found = {int(steps): ast.literal_eval(text) for steps, text in re.findall(r"^(\d+) steps: (\{.*\})$", said, re.M)}
    rates, losses = in_one_process(30)
    assert {steps: metrics["rates"] for steps, metrics in found.items()} == {10: rates[10], 30: rates[30]}
    for steps, metrics in found.items():
        assert metrics["loss"] == pytest.approx(losses[steps - 1][0], rel=1e-3)
