"""The command line, `lerac-fast`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lerac_fast import build_info
from lerac_fast.experiments.errors import ExperimentError

DEMO_NOISE = "demo noise"


class Command(Protocol):
    """What a command of the command line is: its options, checked, and what to do."""

    def run(self) -> None: ...


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

        from lerac_fast.experiments.catalogue import Catalogue
        from lerac_fast.experiments.demos.demo import Demo
        from lerac_fast.experiments.demos.noise import Noise
        from lerac_fast.experiments.report.command import Report
        from lerac_fast.experiments.snr import Snr
        from lerac_fast.experiments.trials.plan import Plan
        from lerac_fast.experiments.trials.run import Run
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "lerac_fast"):
            raise
        return _fail(f"{package} is not installed: pip install 'lerac_fast[experiments]'")

    command: Command = tyro.extras.subcommand_cli_from_dict(
        {
            "list": Catalogue,
            "plan": Plan,
            "run": Run,
            "report": Report,
            "snr": Snr,
            "demo": Demo,
            DEMO_NOISE: Noise,
            "info": Info,
        },
        prog="lerac-fast",
        description="Experiments with lerac_fast.",
        args=_join_demo_noise(sys.argv[1:] if args is None else args),
    )
    try:
        command.run()
    except (ExperimentError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _join_demo_noise(args: Sequence[str]) -> list[str]:
    """The two words as the name of one command, for `demo` is a command with options of its own."""
    words = DEMO_NOISE.split()
    return [DEMO_NOISE, *args[len(words) :]] if list(args[: len(words)]) == words else list(args)


def _fail(message: str) -> int:
    print(f"lerac-fast: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
