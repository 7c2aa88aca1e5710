"""Files as people have them: `python -m lerac_experiments.data.own.sample SENTENCES FOLDER` for `make reproduce-small`.

FOLDER/sentences.csv, with the columns text and label, and FOLDER/images, with a folder of png files for each class.
The tool reads them like anybody's texts and images.
"""

import argparse
import csv
import io
import tarfile
from pathlib import Path

from PIL import Image

from lerac_experiments.data.fashion_mnist import load_fashion_mnist
from lerac_experiments.data.images_in_memory import Labelled

RATINGS = "additional_resources/hutto_ICWSM_2014.tar.gz"
"""In the source archive of the package vaderSentiment (MIT license): what twenty people each thought of sentences
(Hutto and Gilbert, 2014)."""
SNIPPETS = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
"""In that: numbers, mean ratings from -4 to 4, and sentences of reviews of films, divided by tabs."""
NEUTRAL = 0.8
"""Sentences rated nearer to 0 are left out: the middle fifth of the scale, as in SST-2 (Socher et al., 2013)."""

TRAIN_IMAGES, TEST_IMAGES = 300, 200
"""Of each class; the first of Fashion-MNIST's parts."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lerac_experiments.data.own.sample", description=__doc__)
    parser.add_argument("sentences", type=Path, help="the source archive of vaderSentiment 3.3.2")
    parser.add_argument("folder", type=Path, help="where the files go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    write_sentences(arguments.sentences, arguments.folder / "sentences.csv")
    images = load_fashion_mnist()
    for part, labelled, count in (("train", images.train, TRAIN_IMAGES), ("test", images.test, TEST_IMAGES)):
        write_images(labelled, images.class_names, count, arguments.folder / "images" / part)


def write_sentences(archive: Path, path: Path) -> None:
    """Writes a csv file of sentences that are clearly `positive` or `negative`."""
    with tarfile.open(archive) as outer:
        (name,) = [name for name in outer.getnames() if name.endswith(RATINGS)]
        ratings = outer.extractfile(name)
        assert ratings is not None
        with tarfile.open(fileobj=io.BytesIO(ratings.read())) as inner:
            snippets = inner.extractfile(SNIPPETS)
            assert snippets is not None
            rows = [line.split("\t") for line in snippets.read().decode().splitlines()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for _, rating, sentence in rows:
            if abs(float(rating)) >= NEUTRAL:
                writer.writerow((sentence, "positive" if float(rating) > 0 else "negative"))


def write_images(labelled: Labelled, names: tuple[str, ...], count: int, folder: Path) -> None:
    """Writes `count` images of each class to folder/CLASS/NUMBER.png."""
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        chosen = (labelled.labels == label).nonzero().flatten()[:count]
        for number in chosen.tolist():
            Image.fromarray(labelled.images[number, 0].numpy()).save(folder / name / f"{number}.png")


if __name__ == "__main__":
    main()
