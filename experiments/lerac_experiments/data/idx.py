"""The idx format of the MNIST family: a big-endian header of sizes, then bytes in row-major order."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lerac_experiments.data.reading import require_file
from lerac_experiments.errors import ExperimentError

# The third byte of the header; the MNIST family uses no other.
_UNSIGNED_BYTE = 0x08
_LIMIT = 1_000_000_000  # bytes; Fashion-MNIST has 47 million


def read_idx(path: Path) -> Tensor:
    """Reads a gzipped idx file of unsigned bytes into a uint8 tensor of the shape in its header.

    Raises:
        ExperimentError: the file is missing, damaged, or of another kind. The message names it.
    """
    try:
        with gzip.open(require_file(path)) as file:
            return _read(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise ExperimentError(f"cannot read {path}: {error}") from error


def _read(file: gzip.GzipFile, path: Path) -> Tensor:
    start = file.read(4)
    if len(start) < 4 or start[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise ExperimentError(f"{path} is no idx file of unsigned bytes: it starts with {start.hex(' ')!r}")
    sizes = file.read(4 * start[3])
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    announced, written = math.prod(shape), " x ".join(map(str, shape))
    if announced > _LIMIT:
        raise ExperimentError(f"{path} is refused: it announces {written} bytes, and at most {_LIMIT:,} are expected")
    content = file.read(announced + 1)  # the end is where the checksum is looked at
    if len(sizes) != 4 * start[3] or len(content) != announced:
        follow = f"{len(content)} follow" + (", or more" if len(content) > announced else "")
        raise ExperimentError(f"{path} is damaged: its header announces {written} bytes, and {follow}")
    # A copy, for torch wants memory it may write to.
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(shape).copy())
