"""Options of which it matters whether they are given."""

from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypedDict, get_type_hints

import tyro


def given(kind: type, hint: Callable[[Any], str]) -> Any:
    """For tyro: a dictionary of those fields of a dataclass that are given on the command line.

    So an option that is given is told from one that is not, even where it has the usual value.

    Args:
        kind: its docstring explains the fields, under "Attributes".
        hint: what help says of a field's value if it is not given, by its default.
    """
    types = get_type_hints(kind)
    options = {
        each.name: Annotated[types[each.name], tyro.conf.arg(help_behavior_hint=f"({hint(each.default)})")]
        for each in fields(kind)
    }
    made = TypedDict(kind.__name__, options, total=False)  # type: ignore[misc]
    made.__doc__ = kind.__doc__
    return Annotated[made, tyro.conf.arg(name="")]
