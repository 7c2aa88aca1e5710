"""The command line, `lerac-fast`.

A command is imported when it is called: most of what they need takes long to import, and is not needed by the others.
"""

import codecs
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lerac_experiments.errors import ExperimentError

DEMO_NOISE = "demo noise"


class Command(Protocol):
    """What a command of the command line is: its options, checked, and what to do."""

    def run(self) -> None: ...


@dataclass(frozen=True)
class Info:
    """Print what this installation of lerac_fast is made of, as JSON."""

    def run(self) -> None:
        """Prints `lerac_fast.build_info()`."""
        from lerac_fast import build_info  # and torch with it, which takes a second

        print(json.dumps(build_info(), indent=2))


@dataclass(frozen=True)
class Entry:
    """A command that is not imported yet."""

    module: str
    """In lerac_experiments."""
    name: str
    """Of its class."""
    description: str
    """As its class has it."""

    def load(self) -> Callable[..., Command]:
        """Imports it."""
        loaded: Callable[..., Command] = getattr(importlib.import_module(f"{__package__}.{self.module}"), self.name)
        return loaded

    def named(self) -> Callable[[], None]:
        """What stands for it in a list of commands."""

        def stand_in() -> None: ...

        stand_in.__doc__ = self.description
        return stand_in


COMMANDS = {
    "list": Entry(
        "commands.catalogue", "Catalogue", "List the models, data sets, regimes and presets that can be planned."
    ),
    "data": Entry(
        "commands.data",
        "ShowData",
        "Show what is read of a data set, how it is divided, its classes and some examples, before anyone trains.",
    ),
    "plan": Entry(
        "commands.plan",
        "Plan",
        "Write the manifest of an experiment: every combination of models, data sets, regimes and seeds, or a preset.",
    ),
    "run": Entry("commands.run", "Run", "Run the trials of a manifest that have not been run yet."),
    "report": Entry(
        "commands.report",
        "Report",
        "Merge the trials that have ended into the papers' tables, as Markdown and LaTeX, and into figures.",
    ),
    "snr": Entry(
        "commands.snr",
        "Snr",
        "Measure the signal-to-noise ratio and the entropy of every layer of a randomly initialised network.",
    ),
    "suggest": Entry(
        "commands.suggest",
        "Suggest",
        "Measure a model on data, and propose learning rates, k of LeRaC and settings of CBS, with the reasons.",
    ),
    "demo": Entry(
        "commands.demo",
        "Demo",
        "Train a small residual network on real images, conventionally and with each curriculum, and compare.",
    ),
    DEMO_NOISE: Entry(
        "commands.demo",
        "Noise",
        "Train a small residual network on images with wrong labels, with and without data parameters, and compare.",
    ),
    "info": Entry("cli", "Info", "Print what this installation of lerac_fast is made of, as JSON."),
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command of the command line (`sys.argv` by default) and returns its exit status.

    Wrong arguments leave through SystemExit with tyro's message.
    """
    _print_whatever_the_encoding()
    words = _join_demo_noise(sys.argv[1:] if args is None else args)
    try:
        # Without options there is nothing to be read, and no need of the extras.
        command = Info() if words == ["info"] else _command(words)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "lerac_fast", "lerac_experiments"):
            raise
        return _fail(f"{package} is not installed: pip install lerac-fast-experiments")
    try:
        command.run()
    except (ExperimentError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _command(words: list[str]) -> Command:
    """The command that is called, with its options."""
    import tyro

    called = words[0] if words else None
    commands: dict[str, Callable[..., Any]] = {
        name: entry.load() if name == called else entry.named() for name, entry in COMMANDS.items()
    }
    command: Command = tyro.extras.subcommand_cli_from_dict(
        commands, prog="lerac-fast", description="Experiments with lerac_fast.", args=words
    )
    return command


def _join_demo_noise(args: Sequence[str]) -> list[str]:
    """The two words as the name of one command, for `demo` is a command with options of its own."""
    words = DEMO_NOISE.split()
    return [DEMO_NOISE, *args[len(words) :]] if list(args[: len(words)]) == words else list(args)


_IN_ASCII = {"±": "+-", "µ": "u", "²": "^2", "≈": "~", "η": "eta", "━": "-", "╸": "-", "╺": "-", "…": "..."}


def _print_whatever_the_encoding() -> None:
    """What the terminal's encoding lacks is written in other words, where Python would end the command: in a table of
    results, or in a path that is no UTF-8."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        lacking = error.object[error.start : error.end]
        return "".join(_IN_ASCII.get(character, "?") for character in lacking), error.end

    codecs.register_error("lerac_fast", replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # else something else than a terminal or a file is in its place
            stream.reconfigure(errors="lerac_fast")


def _fail(message: str) -> int:
    print(f"lerac-fast: error: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
