"""`python -m tools.gpu_code`: prints what was found; the exit status is 1 if anything speaks against a kernel."""

import argparse
import sys
from pathlib import Path

from tools.gpu_code.check import check
from tools.gpu_code.tables import markdown, show


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_code", description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="PATH", help="write the tables there, too")
    path: Path | None = parser.parse_args().markdown
    findings = check()
    show(findings)
    if path is not None:
        path.write_text(markdown(findings))
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
