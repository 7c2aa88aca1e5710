"""What commands import. What importing the library may import: see tests/test_architecture.py."""

import ast
import json
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from experiments.tests.trials.helpers import digits_trial, planned
from lerac_experiments.cli import main
from lerac_experiments.trials.store import TrialFolder

PACKAGE = Path(__file__).parents[1] / "lerac_experiments"

SLOW = (
    "torch",
    "torchvision",
    "torch._dynamo",
    "sklearn",
    "scipy",
    "matplotlib",
    "transformers",
    "soundfile",
    "rich",
    "pandas",
)
"""To import."""


@pytest.mark.parametrize("module", ["tyro", "rich"])
def test_a_missing_extra_is_named_in_one_line(module: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom lerac_experiments.cli import main; sys.exit(main(['demo']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert f"{module} is not installed" in run.stderr
    assert "pip install lerac-fast-experiments" in run.stderr


def test_trials_do_not_fail_for_want_of_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = digits_trial()
    folder = planned(tmp_path, trial)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert main(["run", str(folder), "--tensorboard", str(tmp_path / "logs")]) == 1
    assert "tensorboard is not installed, which writes the logs: pip install tensorboard" in capsys.readouterr().err
    assert TrialFolder(folder, trial).record() is None


def test_info_takes_the_core_alone() -> None:
    """What is installed is asked for where something does not work."""
    missing = ("tyro", "rich", "matplotlib", "sklearn", "torchvision", "scipy", "pooch", "filelock", "soundfile")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from lerac_experiments.cli import main; sys.exit(main(['info']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["gpu_backends"].keys() == {"cuda", "triton"}


# What commands may have imported, each after those before it.
ALLOWED: dict[tuple[str, ...], set[str]] = {
    ("--help",): {"rich"},
    ("info",): {"rich", "torch"},
    ("list",): {"rich", "torch"},
    ("plan", "--help"): {"rich", "torch"},
    ("run", "--help"): {"rich", "torch"},
    ("report", "--help"): {"rich", "torch", "scipy", "matplotlib"},
}


def test_commands_import_what_they_need() -> None:
    """Not what other commands need, which takes seconds."""
    code = (
        "import contextlib, json, sys\n"
        "from lerac_experiments.cli import main\n"
        "imported = []\n"
        f"for args in {list(ALLOWED)!r}:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main(args)\n"
        f"    imported.append([name for name in {SLOW!r} if name in sys.modules])\n"
        "print(json.dumps(imported))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for (args, allowed), imported in zip(ALLOWED.items(), json.loads(run.stdout.splitlines()[-1]), strict=True):
        assert set(imported) <= allowed, args


def test_no_package_imports_itself_by_way_of_others() -> None:
    """`data` knows nothing of `models`, these nothing of `trials`, and so on up to `commands`."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        package = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lerac_experiments."):
                graph[package].add(node.module.split(".")[1])
    TopologicalSorter({package: others - {package} for package, others in graph.items()}).prepare()  # or CycleError
    assert graph["data"] == {"data", "errors", "own_code"}
