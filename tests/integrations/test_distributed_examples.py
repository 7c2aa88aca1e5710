"""The examples of several processes: what they return, and that they go on from their checkpoints in mid-curriculum."""

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from lerac_fast import LeRaC
from tests.integrations.launching import EXAMPLES, cpu_for_gpus, free_port, run_launched
from tests.optim.distributed.processes import Processes

K = 20


def plain_rates(steps: int) -> list[list[float]]:
    """Of the examples' models, before the first step and after each."""
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(3)]
    optimizer = torch.optim.SGD(groups, lr=1e-2)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6)
    table = [curriculum.get_last_lr()]
    for _ in range(steps):
        optimizer.step()
        curriculum.step()
        table.append(curriculum.get_last_lr())
    return table


def test_fsdp2(two: Processes, tmp_path: Path) -> None:
    def train(folder: str, start: int, end: int) -> list[float]:
        return two.run(run_launched, 2, free_port(), "fsdp2", str(tmp_path / folder), start, end)

    train("parts", 0, 10)
    losses = train("parts", 10, 30)
    assert losses == train("whole", 0, 30)
    assert max(losses) < 0.3


def test_zero_redundancy(two: Processes) -> None:
    assert max(two.run(run_launched, 2, free_port(), "zero_redundancy")) < 0.1


def _accelerate(rank: int, port: int, folder: str, fsdp2: bool) -> tuple[Any, Any]:
    from accelerate.state import AcceleratorState, GradientState

    answers = []
    for i, resume in enumerate((False, True)):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        args = 2, port + i, "accelerate_fsdp2", folder, resume
        if fsdp2:
            with cpu_for_gpus():
                answers.append(run_launched(rank, *args))
        else:
            answers.append(run_launched(rank, *args))
    return tuple(answers)


@pytest.mark.parametrize("fsdp2", [False, True], ids=["as on CPUs", "FSDP2"])
def test_accelerate(two: Processes, tmp_path: Path, fsdp2: bool) -> None:
    pytest.importorskip("accelerate")
    for (rates, loss), (resumed, same) in two.run(_accelerate, free_port(), str(tmp_path), fsdp2):
        assert rates == plain_rates(30)[1:]
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
    assert len(found[0]) == 4
    expected = plain_rates(30)
    for _, step, loss, rates in found[0]:
        assert float(loss) < (0.1 if step == "30" else 0.3)
        assert ast.literal_eval(rates) == expected[int(step)]


@pytest.mark.skipif(not find_spec("ray"), reason="ray is not installed")
def test_ray(tmp_path: Path) -> None:
    said = run_command(str(EXAMPLES / "distributed" / "ray_train.py"), str(tmp_path))
    found = {int(steps): ast.literal_eval(text) for steps, text in re.findall(r"^(\d+) steps: (\{.*\})$", said, re.M)}
    expected = plain_rates(30)
    assert {steps: metrics["rates"] for steps, metrics in found.items()} == {10: expected[10], 30: expected[30]}
    assert found[30]["loss"] < 0.1
