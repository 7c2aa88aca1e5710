"""What commands print."""

import os
from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

WIDE = 160
"""Characters in a line of a file or pipe, which has no width of its own."""


def stdout(quiet: bool = False) -> Console:
    """Standard output: of a terminal as wide as it is."""
    console = Console(quiet=quiet)
    if not (console.is_terminal or console.is_jupyter or "COLUMNS" in os.environ):
        console.width = WIDE
    return console


def say(console: Console, line: str) -> None:
    """Prints a line as it is: what a user has named may look like markup, and is to be copied in one piece."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def table(*columns: str, title: str | None = None, whole: int = 0) -> Table:
    """A table that cuts nothing off, however narrow the terminal is: texts go on in the next line.

    Args:
        whole: how many of the first columns are names to be copied, which are never broken.
    """
    made = Table(title=title)
    for number, column in enumerate(columns):
        made.add_column(column, overflow="fold", no_wrap=number < whole)
    return made


def progress_bar(console: Console) -> Progress:
    """Steps done and to do, and the time that they took and will take. In a notebook it takes ipywidgets, without which
    nothing is shown."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console.is_jupyter and find_spec("ipywidgets") is None,
    )
