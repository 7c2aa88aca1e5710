"""Arrays of numbers in NumPy's files. They are not trusted: what a header claims is compared with what follows it."""

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lerac_experiments.data.reading import ZIP_DAMAGE, read_zipped, require_file
from lerac_experiments.errors import ExperimentError

_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, names: Iterable[str], limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of these names, of whole, real or truth values; others are not looked at.

    Args:
        limit: of the bytes of one array.

    Raises:
        ExperimentError: the file is damaged, an array is missing or larger, or holds anything but numbers.
    """
    try:
        archive = zipfile.ZipFile(require_file(path))
    except ZIP_DAMAGE as error:
        raise ExperimentError(f"cannot read {path}: {error}") from error
    with archive:
        return {name: _read_npy(read_zipped(archive, f"{name}.npy", path / name, limit), path / name) for name in names}


def _read_npy(content: bytes, path: Path) -> NDArray[Any]:
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        if version not in _READ_HEADER:
            raise ValueError(f"its version is {version}")
        shape, by_columns, kind = _READ_HEADER[version](file)
    except Exception as error:  # what a damaged header raises can be anything
        raise ExperimentError(f"cannot read {path}: {error}") from error
    if kind.kind not in "biuf" or kind.subdtype is not None:
        raise ExperimentError(f"cannot read {path}: it holds {kind}, and not numbers")
    follow = len(content) - file.tell()
    if kind.itemsize * math.prod(shape) != follow or min(shape, default=0) < 0:
        raise ExperimentError(f"cannot read {path}: its header announces {shape} of {kind}, and {follow} bytes follow")
    return np.frombuffer(content, kind, offset=file.tell()).reshape(shape, order="F" if by_columns else "C")
