"""What the tests of text and audio share: batches as the runner loads them, and archives."""

import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from lerac_experiments.data.examples import Batch, Examples


def _itself(batch: Any) -> Any:
    return batch


def batches(examples: Examples, size: int = 4, workers: int = 0) -> list[Batch]:
    """All batches, in order."""
    sampler = BatchSampler(SequentialSampler(range(len(examples))), size, drop_last=False)
    return list(DataLoader(examples, batch_sampler=sampler, collate_fn=_itself, num_workers=workers))


def write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    """A zip archive of these files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def write_folder(path: Path, contents: Mapping[str, bytes]) -> None:
    """These files in a folder."""
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


@contextmanager
def peak_below(limit: int) -> Iterator[None]:
    """Fails if so many bytes are allocated at once."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
