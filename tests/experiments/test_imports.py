"""What importing the library may import."""

import subprocess
import sys

import pytest

EXTRA = ("lerac_fast.experiments", "rich", "tyro", "matplotlib", "torchvision", "sklearn")


def imported(statement: str) -> set[str]:
    """The modules loaded by a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_library_needs_none_of_the_experiments_dependencies() -> None:
    assert not imported("import lerac_fast, lerac_fast.optim").intersection(EXTRA)


@pytest.mark.parametrize("module", ["tyro", "rich"])
def test_a_missing_extra_is_named_in_one_line(module: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from lerac_fast.experiments.cli import main; sys.exit(main(['demo']))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert f"{module} is not installed" in run.stderr
    assert "pip install 'lerac_fast[experiments]'" in run.stderr
