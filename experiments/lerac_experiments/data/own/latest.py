"""What takes long to read is kept as long as it is asked for again: trials on the same data follow each other."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Latest(Generic[_T]):
    """What was made last, and what it was made of."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, _T] | None = None

    def of(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What is made, or was for the same key. The one before is let go first, for both may not fit into memory."""
        if self._kept is None or self._kept[0] != key:
            self._kept = None
            self._kept = key, make()
        return self._kept[1]
