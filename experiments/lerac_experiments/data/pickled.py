"""Pickles of plain values and of arrays of bytes, which is what CIFAR comes in. They are not trusted.

An unpickler calls what the file names, with what the file gives it. Here that are stand-ins which only keep what they
are given: NumPy sees nothing of the file but the sizes and the bytes of an array, once they have been checked.
"""

import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lerac_experiments.errors import ExperimentError


class _Named:
    """Stands for something of NumPy's that the file names."""

    def __init__(self, *given: Any) -> None:
        self.given = given
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayClass(_Named):
    """Of `numpy.ndarray`."""


class _Type(_Named):
    """Of `numpy.dtype`."""

    @property
    def is_byte(self) -> bool:
        """Whether it is `uint8`, and nothing more: no fields, no elements that are arrays or objects."""
        state = self.state if isinstance(self.state, tuple) else ()
        # Version, byte order, elements, names, fields; then sizes and flags, which are those of the kind.
        return self.given[:1] in (("u1",), (b"u1",)) and len(state) >= 5 and state[2:5] == (None, None, None)


class _Array(_Named):
    """Of what `numpy.core.multiarray._reconstruct` makes."""

    def to_numpy(self) -> NDArray[np.uint8] | None:
        """The array; None, it is none of bytes, or its sizes are not those of its content."""
        state = self.state if isinstance(self.state, tuple) and len(self.state) == 5 else (None,) * 5
        _, shape, kind, by_columns, content = state
        if not (isinstance(kind, _Type) and kind.is_byte and isinstance(shape, tuple) and isinstance(content, bytes)):
            return None
        if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) != len(content):
            return None
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


_KNOWN: dict[tuple[str, str], type[_Named]] = {
    ("numpy", "ndarray"): _ArrayClass,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


# The one in Python: the one in C allocates as much as an index in the file claims.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN[module, name]


def read_pickle(content: bytes, path: Path) -> Any:
    """The value in a pickle of CIFAR. Strings of Python 2 are bytes; in a dictionary, an array of bytes is NumPy's, and
    any other array None.

    Args:
        path: for messages.

    Raises:
        ExperimentError: it is damaged, or asks for anything but plain values and arrays.
    """
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # what a damaged pickle raises can be anything
        raise ExperimentError(f"{path} is damaged, or no batch of CIFAR: {error}") from error
    if not isinstance(value, dict):
        return value
    return {key: part.to_numpy() if isinstance(part, _Array) else part for key, part in value.items()}
