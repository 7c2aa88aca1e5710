"""What all pictures have in common."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

# Colour, dashes and marker. Okabe and Ito's palette and some of Tol's, which colour-blind readers can tell apart; the
# dashes help where colours are lost.
STYLES: tuple[tuple[str, Any, str], ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#009E73", "-.", "^"),
    ("#CC79A7", ":", "D"),
    ("#000000", (0, (1, 1)), "v"),
    ("#E69F00", (0, (5, 1)), "P"),
    ("#56B4E9", (0, (3, 1, 1, 1)), "X"),
    ("#882255", (0, (7, 2)), "<"),
    ("#999933", (0, (2, 2)), ">"),
    ("#661100", (0, (4, 1, 1, 1, 1, 1)), "*"),
    ("#AA4499", (0, (1, 3)), "h"),
    ("#332288", (0, (6, 1, 1, 1)), "p"),
    ("#44AA99", (0, (2, 1)), "d"),
    ("#CC6677", (0, (8, 2, 2, 2)), "H"),
    ("#117733", (0, (1, 2, 4, 2)), "8"),
    ("#DDAA33", (0, (9, 1)), "1"),
    ("#777777", (0, (3, 3)), "2"),
    ("#AA3377", (0, (5, 2, 1, 2, 1, 2)), "3"),
)
"""One for each regime at least, and one for who knows the wrong labels."""


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as PNG."""
    figure.savefig(path, format="png", dpi=150)
