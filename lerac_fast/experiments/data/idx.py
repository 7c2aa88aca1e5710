"""The idx format of the MNIST family: a big-endian header of sizes, then bytes in row-major order."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lerac_fast.experiments.errors import ExperimentError

# The third byte of the header; the MNIST family uses no other.
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> Tensor:
    """Reads a gzipped idx file of unsigned bytes into a uint8 tensor of the shape in its header.

    Raises:
        ExperimentError: the file is missing, damaged, or of another kind. The message names it.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ExperimentError(f"cannot read {path}: {error}") from error
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise ExperimentError(f"{path} is no idx file of unsigned bytes: it starts with {content[:4].hex(' ')!r}")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if len(content) - start != math.prod(shape):
        raise ExperimentError(
            f"{path} is damaged: its header announces {' x '.join(map(str, shape))} bytes, "
            f"and {len(content) - start} follow"
        )
    # A copy, for torch wants memory it may write to.
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())
