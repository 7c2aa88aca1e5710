"""The command line: `lerac-fast demo`, `lerac-fast info`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lerac_fast import build_info
from lerac_fast.experiments.errors import ExperimentError


@dataclass(frozen=True)
class Info:
    """Print what this installation of lerac_fast is made of, as JSON."""

    def run(self) -> None:
        """Prints `lerac_fast.build_info()`."""
        print(json.dumps(build_info(), indent=2))


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command of the command line (`sys.argv` by default) and returns its exit status.

    Wrong arguments leave through SystemExit with tyro's message.
    """
    try:
        import tyro

        from lerac_fast.experiments.demo import Demo
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "lerac_fast"):
            raise
        return _fail(f"{package} is not installed: pip install 'lerac_fast[experiments]'")

    command: Demo | Info = tyro.extras.subcommand_cli_from_dict(
        {"demo": Demo, "info": Info}, prog="lerac-fast", description="Experiments with lerac_fast.", args=args
    )
    try:
        command.run()
    except (ExperimentError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _fail(message: str) -> int:
    print(f"lerac-fast: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
