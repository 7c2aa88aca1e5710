"""What the commands of the Makefile rely on, read without running them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_pip_knows_the_options_that_the_build_gives_it(tmp_path: Path) -> None:
    """A new environment has the pip of its Python, and that of Python 3.10 knows no `-C`."""
    command = ["make", "--dry-run", "build", f"VENV={tmp_path / 'new'}"]
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert plan.index("'pip>=23.1'") < plan.index(" -C ")
