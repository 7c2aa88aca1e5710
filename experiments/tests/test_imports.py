"""What commands import. What importing the library may import: see tests/test_architecture.py."""

import json
import subprocess
import sys

import pytest

SLOW = ("torchvision", "torch._dynamo", "sklearn", "scipy", "matplotlib", "transformers", "soundfile", "rich")
"""To import, next to torch."""


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


def test_info_takes_the_core_alone() -> None:
    """What is installed is asked for where something does not work."""
    missing = ("tyro", "rich", "matplotlib", "sklearn", "torchvision", "scipy", "pooch", "filelock", "soundfile")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from lerac_experiments.cli import main; sys.exit(main(['info']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["gpu_backends"].keys() == {"cuda", "triton"}


@pytest.mark.parametrize(
    ("args", "allowed"),
    [
        (["--help"], {"rich"}),
        (["info"], set()),
        (["list"], {"rich"}),
        (["plan", "--help"], {"rich"}),
        (["run", "--help"], {"rich"}),
        (["report", "--help"], {"rich", "scipy", "matplotlib"}),
    ],
)
def test_commands_import_what_they_need(args: list[str], allowed: set[str]) -> None:
    """Not what other commands need, which takes seconds."""
    code = (
        "import sys\n"
        "from lerac_experiments.cli import main\n"
        "try:\n"
        f"    main({args!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print('imported:', *(name for name in {SLOW!r} if name in sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = run.stdout.rpartition("imported:")[2].split()
    assert set(imported) <= allowed
