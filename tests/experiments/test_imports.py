"""A missing extra is named. What importing the library may import: see tests/test_architecture.py."""

import subprocess
import sys

import pytest


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
