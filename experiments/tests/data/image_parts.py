"""What the tests of image data sets share: loading a data set whole, and writing images."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.source import Parts


def identity(batch: Batch) -> Batch:
    return batch


def batches(part: Examples, size: int = 4, workers: int = 0) -> list[Batch]:
    """All of a part, in its order, as the runner loads it."""
    sampler = BatchSampler(SequentialSampler(part), size, drop_last=False)
    return [*DataLoader(part, batch_sampler=sampler, collate_fn=identity, num_workers=workers)]


def load_all(parts: Parts) -> dict[str, list[Batch]]:
    """All batches of the three parts, after a look at the numbers of their examples."""
    loaded = {name: batches(getattr(parts, name)) for name in ("train", "validation", "test")}
    for name, part in loaded.items():
        numbers = [index for batch in part for index in batch.indices.tolist()]
        assert numbers == [*range(len(getattr(parts, name)))]
    return loaded


def write_image(path: Path, size: tuple[int, int] = (64, 64), value: int = 128, mode: str = "RGB") -> None:
    """An image of one shade, in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def cut(path: Path, keep: float = 0.5) -> None:
    """Leaves a file the first part of its content."""
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
