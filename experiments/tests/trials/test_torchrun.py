"""Trials that several processes train together."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from experiments.tests.trials.helpers import digits_trial, outcome, planned, record_of, run
from lerac_experiments.distributed import Ranks
from lerac_experiments.regimes import LeRaCPart
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial
from lerac_fast import LeRaC
from lerac_fast.optim import SGD


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    """Two processes, which train one trial together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run([*launcher, *command], check=False, capture_output=True, text=True)


def test_torchrun_trains_together(tmp_path: Path) -> None:
    """Regimes with tensors of their own; and trials that all processes fail at, which do not end the run."""
    good = [digits_trial("cbs+lerac"), digits_trial("dp-joint"), digits_trial("lerac-snr")]
    bad = [digits_trial(lr=1e30), digits_trial(batch_size=15), replace(good[0], model="none")]
    folder = planned(tmp_path, *bad, *good)
    options = ("--device", "cpu", "--threads", "1", "--checkpoint-seconds", "0")
    done = torchrun("-m", "lerac_experiments.cli", "run", str(folder), *options)
    records = [json.loads(TrialFolder(folder, trial).record_path.read_text()) for trial in (*bad, *good)]
    assert [record["status"] for record in records] == ["failed"] * 3 + ["done"] * 3, done.stderr
    assert "batch_size=15 must be a multiple of the 2 processes" in records[1]["error"]
    assert records[3]["ranks"] == 2
    assert records[3]["sizes"]["train"] == 90


def test_torchrun_goes_on_within_an_epoch(tmp_path: Path, random_trial: Trial) -> None:
    """Killed in the second epoch, after the second checkpoint in it; with dropout, drawn by each process for itself.
    One process takes up what two have left, too."""
    trial = replace(random_trial, regime="cbs+lerac", settings=replace(random_trial.settings, batch_size=2, epochs=2))
    undisturbed, killed = planned(tmp_path / "undisturbed", trial), planned(tmp_path / "killed", trial)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys\n"
        "from dataclasses import replace\n"
        "import torch\n"
        "from lerac_experiments.cli import main\n"
        "from lerac_experiments.models import MODELS\n"
        "from lerac_experiments.runner import Runner\n"
        "spec, step, calls = MODELS['lenet'], Runner._step, []\n"
        "def build(parts, folder):\n"
        "    return torch.nn.Sequential(torch.nn.Dropout(0.2), spec.build(parts, folder))\n"
        "MODELS['lenet'] = replace(spec, build=build)\n"
        "def dying(self, batch):\n"
        "    calls.append(1)\n"
        "    if len(calls) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, batch)\n"
        "Runner._step = dying\n"
        "options = ['--device', 'cpu', '--threads', '1', '--checkpoint-seconds', '0']\n"
        "sys.exit(main(['run', sys.argv[1], *options]))\n"
    )
    assert torchrun(str(script), str(undisturbed), "0").returncode == 0
    assert torchrun(str(script), str(killed), str(45 + 40)).returncode != 0  # 45 steps are an epoch
    path = TrialFolder(killed, trial).checkpoint_path
    assert torch.load(path, weights_only=True)["steps_done"] == 45 + 32
    alone = planned(tmp_path / "alone", trial)
    shutil.copytree(killed / "trials", alone / "trials")
    assert run(alone) == 0
    assert record_of(alone, trial)["epochs"][0] == record_of(undisturbed, trial)["epochs"][0] | {
        name: record_of(alone, trial)["epochs"][0][name] for name in ("seconds", "evaluation_seconds")
    }
    assert len(record_of(alone, trial)["epochs"]) == 2
    done = torchrun(str(script), str(killed), "0")
    assert done.returncode == 0, done.stderr
    assert outcome(record_of(killed, trial)) == outcome(record_of(undisturbed, trial))


def test_a_process_that_cannot_start_keeps_none_waiting(tmp_path: Path) -> None:
    """Not even where there is something to measure before the training."""
    trials = [digits_trial(regime) for regime in ("conventional", "lerac-snr")]
    folder = planned(tmp_path / "runs", *trials)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from dataclasses import replace\n"
        "from lerac_experiments.cli import main\n"
        "from lerac_experiments.data import registry\n"
        "from lerac_experiments.data.source import Unavailable\n"
        "digits = registry.DATA['digits']\n"
        "def load(request):\n"
        "    if os.environ['RANK'] == '1': raise Unavailable('not on this machine')\n"
        "    return digits.load(request)\n"
        "registry.DATA['digits'] = replace(digits, load=load)\n"
        f"sys.exit(main(['run', {str(folder)!r}, '--device', 'cpu', '--threads', '1']))\n"
    )
    done = torchrun(str(script))
    assert done.returncode == 1, done.stderr
    assert "none of 2 trials could be run" in done.stderr
    for trial in trials:
        assert record_of(folder, trial)["status"] == "unavailable"
        assert "not on this machine" in record_of(folder, trial)["error"]


def test_processes_take_the_rates_that_the_first_has_measured() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 2))
    first, second = (
        LeRaCPart(LeRaC(SGD([{"params": layer.parameters()} for layer in model], lr=0.5), 9, initial_lrs=[0.5, lowest]))
        for lowest in (1e-3, 1.1e-3)
    )

    class Second(Ranks):
        def decide(self, value: Any) -> Any:  # noqa: ARG002
            groups = first.scheduler.optimizer.param_groups
            return first.scheduler.state_dict(), [group["lr"] for group in groups]

    second.agree(Second(1, 2))
    for part in (first, second):
        part.scheduler.optimizer.step()
        part.on_step()
    rates = [[group["lr"] for group in part.scheduler.optimizer.param_groups] for part in (first, second)]
    assert rates[0] == rates[1]
    assert rates[0][1] > 1e-3


def test_processes_validate_with_the_same_statistics(tmp_path: Path) -> None:
    """Those of batch norm, which each process gathers from its own share of a batch."""
    folder = planned(tmp_path / "runs", digits_trial())
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "import torch\n"
        "from lerac_experiments.cli import main\n"
        "from lerac_experiments.tasks import Classification\n"
        "evaluate, seen = Classification.evaluate, []\n"
        "def watched(self, model, batches, count, ranks):\n"
        "    seen.append({name: buffer.clone() for name, buffer in model.named_buffers()})\n"
        f"    torch.save(seen, {str(tmp_path)!r} + f'/rank{{ranks.rank}}.pt')\n"
        "    return evaluate(self, model, batches, count, ranks)\n"
        "Classification.evaluate = watched\n"
        f"sys.exit(main(['run', {str(folder)!r}, '--device', 'cpu', '--threads', '1']))\n"
    )
    done = torchrun(str(script))
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert len(first) == 4  # three validations and the test
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert any("running_mean" in name for name in first[0])


def test_what_goes_wrong_in_one_process_of_several_is_recorded(tmp_path: Path) -> None:
    """The others would wait for it in vain: all end, and the next run goes on with the next trial."""
    trials = [digits_trial(), digits_trial(seed=1)]
    folder = planned(tmp_path / "runs", *trials)
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from lerac_experiments.cli import main\n"
        "from lerac_experiments.runner import Runner\n"
        "step, calls = Runner._step, []\n"
        "def failing(self, batch):\n"
        "    calls.append(1)\n"
        "    if os.environ['RANK'] == '1' and len(calls) == 7: raise RuntimeError('a damaged image')\n"
        "    return step(self, batch)\n"
        "Runner._step = failing\n"
        f"sys.exit(main(['run', {str(folder)!r}, '--device', 'cpu', '--threads', '1']))\n"
    )
    assert torchrun(str(script)).returncode != 0
    assert "a damaged image" in record_of(folder, trials[0])["error"]
    assert run(folder) == 1  # the first has failed
    assert record_of(folder, trials[1])["status"] == "done"
