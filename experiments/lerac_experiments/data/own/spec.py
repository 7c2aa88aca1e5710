"""What data of one's own is called on the command line: `READER:PLACE[,OPTION[=VALUE]]...`.

One grammar for all readers. Commas divide; one that belongs to a place or a value is doubled. An option without a value
is a switch. An option that takes several values is given several times. Names have hyphens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lerac_experiments.errors import ExperimentError

PartName = Literal["train", "validation", "test"]

_T = TypeVar("_T")

SYNTAX = "READER:PLACE[,OPTION[=VALUE]]..., where a comma that belongs to a place or a value is doubled"


@dataclass(frozen=True)
class Spec:
    """Such a text, taken apart.

    Attributes:
        text: as it was given.
        reader: before the first colon; of FILE.py:FUNCTION and module:FUNCTION, the file or the module.
        place: behind it.
        given: the options with their values, None for switches.
    """

    text: str
    reader: str
    place: str
    given: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> "Spec | None":
        """None, if it is no such text, but a name, say. Raises ExperimentError if an option is malformed."""
        place, *options = (part.replace("\0", ",") for part in text.replace(",,", "\0").split(","))
        reader, colon, place = place.partition(":")
        if not colon or not reader:
            return None
        if not place:
            raise ExperimentError(f"data {text!r} names no place: it must be {SYNTAX}")
        given = []
        for option in options:
            name, equals, value = option.partition("=")
            if not name.strip() or (equals and not value):
                raise ExperimentError(f"data {text!r}: the option {option!r} is empty; it must be {SYNTAX}")
            given.append((name.strip(), value if equals else None))
        return cls(text, reader, place, tuple(given))

    @property
    def title(self) -> str:
        """As in tables: without the folders that a place lies in."""
        options = (name if value is None else f"{name}={PurePath(value).name}" for name, value in self.given)
        return ",".join([f"{self.reader}:{PurePath(self.place).name or self.place}", *options])

    def options(self, kind: type[_T]) -> _T:
        """The options as a dataclass, whose fields have the types str, int, float (both positive), bool (a switch),
        tuple[str, ...] (given several times) or a Literal, with or without None.

        Raises:
            ExperimentError: one is unknown, given twice, or of another type. The message names it.
        """
        types = get_type_hints(kind)
        known = {each.name.replace("_", "-"): each.name for each in fields(kind)}  # type: ignore[arg-type]
        values: dict[str, Any] = {}
        for name, value in self.given:
            if name not in known:
                raise self._error(f"{name!r} is no option of {self.reader}, which has {', '.join(sorted(known))}")
            field, wanted = known[name], types[known[name]]
            converted = self._converted(name, value, _without_none(wanted))
            if get_origin(wanted) is tuple:
                values[field] = (*values.get(field, ()), converted)
            elif field in values:
                raise self._error(f"{name} is given twice")
            else:
                values[field] = converted
        return kind(**values)

    def _converted(self, name: str, value: str | None, wanted: Any) -> Any:
        if wanted is bool:
            if value is not None:
                raise self._error(f"{name} is a switch, without a value, and {value!r} is given")
            return True
        if value is None:
            raise self._error(f"{name} takes a value: {name}=...")
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                raise self._error(f"{name} must be one of {', '.join(get_args(wanted))}, got {value!r}")
            return value
        if wanted in (int, float):
            return self._number(name, value, wanted)
        return value

    def _number(self, name: str, value: str, wanted: Callable[[str], float]) -> float:
        try:
            number = wanted(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number > 0):
            what = "a whole number above 0" if wanted is int else "a number above 0"
            raise self._error(f"{name} must be {what}, got {value!r}")
        return number

    def _error(self, message: str) -> ExperimentError:
        return ExperimentError(f"data {self.text!r}: {message}")


def _without_none(wanted: Any) -> Any:
    """The type itself, of one that may be None, or of those in a tuple."""
    if get_origin(wanted) is Literal:
        return wanted
    return next((kind for kind in get_args(wanted) if kind not in (type(None), Ellipsis)), wanted)
