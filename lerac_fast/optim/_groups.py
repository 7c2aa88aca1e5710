"""What adding a param group asks of those that there are, without a walk over all of them for each."""

from collections.abc import Iterable
from typing import Any


class GroupedParams:
    """Which parameters the groups hold, remembered from one added group to the next.

    Groups that were added, removed or replaced by others are seen by the list and its length. Parameters that were
    changed inside of a group are not: whoever keeps this drops it at the next step, which refuses shared memory itself.
    """

    def __init__(self) -> None:
        self._groups: list[dict[str, Any]] | None = None
        self._count = 0
        self._ids: set[int] = set()

    def held(self, params: Iterable[Any], groups: list[dict[str, Any]]) -> list[Any]:
        """Those of these that are in the groups."""
        if groups is not self._groups or len(groups) != self._count:
            self._read(groups)
        if any(id(param) in self._ids for param in params):
            self._read(groups)  # the id may be that of a parameter that is no more
        return [param for param in params if id(param) in self._ids]

    def _read(self, groups: list[dict[str, Any]]) -> None:
        self._groups, self._count = groups, len(groups)
        self._ids = {id(param) for group in groups for param in group["params"]}

    def added(self, group: dict[str, Any]) -> None:
        """The last of the groups is new."""
        self._count += 1
        self._ids.update(map(id, group["params"]))
