"""Average precision as KITTI's benchmark has it, for 2D boxes.

Source: its development kit's rules (Geiger, Lenz and Urtasun, 2012; 40 points since 2019, Simonelli et al.). An object
that is harder than the difficulty allows, a neighbouring class, and what lies in a DontCare region are neither hits
nor misses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OVERLAPS = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
"""Above which a detection is of an object, by the classes in the order of their labels."""

POINTS = 41
"""Recalls from 0 to 1 at which precision is looked at: eleven are every fourth, forty are all but the first."""


@dataclass(frozen=True)
class Difficulty:
    """Which objects count."""

    name: str
    least_height: float
    """In pixels, of objects and of detections."""
    most_occluded: int
    most_truncated: float


DIFFICULTIES = (
    Difficulty("easy", 40.0, 0, 0.15),
    Difficulty("medium", 25.0, 1, 0.30),
    Difficulty("hard", 25.0, 2, 0.50),
)


class KittiImage(NamedTuple):
    """The truth and the detections of an image, as arrays."""

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    truncated: NDArray[np.float64]
    occluded: NDArray[np.int64]
    ignored_boxes: NDArray[np.float64]
    ignored_labels: NDArray[np.int64]
    found_boxes: NDArray[np.float64]
    found_labels: NDArray[np.int64]
    found_scores: NDArray[np.float64]


def kitti_precisions(images: Sequence[KittiImage]) -> dict[str, float]:
    """The average precisions of each class and difficulty, by 11 and by 40 points, where there is such an object."""
    found = {}
    for label, name in enumerate(OVERLAPS, 1):
        for difficulty in DIFFICULTIES:
            eleven, forty = average_precisions(images, label, OVERLAPS[name], difficulty)
            if np.isnan(eleven):
                continue
            found[f"{name} {difficulty.name}, 11 points"] = eleven
            found[f"{name} {difficulty.name}, 40 points"] = forty
    return found


def average_precisions(
    images: Sequence[KittiImage], label: int, overlap: float, difficulty: Difficulty
) -> tuple[float, float]:
    """Of a class at a difficulty: by 11 points, and by 40; NaN where no object is of it."""
    scenes = [_Scene(image, label, overlap, difficulty) for image in images]
    objects = sum(int(scene.counts.sum()) for scene in scenes)
    if objects == 0:
        return float("nan"), float("nan")
    scores = np.sort([score for scene in scenes for score in scene.scores_of_hits()])[::-1]
    precisions = np.zeros(POINTS)
    for point, threshold in enumerate(_thresholds(scores, objects)):
        hits, false = np.sum([scene.hits_and_false(threshold) for scene in scenes], axis=0)
        precisions[point] = hits / max(1, hits + false)
    # The best at this recall or a higher one.
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(precisions[::4].mean()), float(precisions[1:].mean())


def _thresholds(scores: NDArray[np.float64], objects: int) -> list[float]:
    """The scores, falling, at which the recall comes nearest to each of the points."""
    thresholds: list[float] = []
    wanted = 0.0  # summed up as the development kit does it: which of two is nearer may hang on the last digit
    for number, score in enumerate(scores, 1):
        recall = number / objects
        last = number == len(scores)
        if not last and (number + 1) / objects - wanted < wanted - recall:
            continue  # the next is nearer
        thresholds.append(float(score))
        wanted += 1.0 / (POINTS - 1)
    return thresholds[:POINTS]


class _Scene:
    """An image as a class at a difficulty sees it."""

    def __init__(self, image: KittiImage, label: int, overlap: float, difficulty: Difficulty) -> None:
        own, near = image.labels == label, image.ignored_labels == label
        boxes = image.boxes[own]
        fits = (
            (_heights(boxes) >= difficulty.least_height)
            & (image.occluded[own] <= difficulty.most_occluded)
            & (image.truncated[own] <= difficulty.most_truncated)
        )
        self.counts: NDArray[np.bool_] = np.concatenate([fits, np.zeros(int(near.sum()), bool)])
        """Of objects and neighbours, which are to be found."""
        found = image.found_labels == label
        self.scores = image.found_scores[found]
        self.small: NDArray[np.bool_] = _heights(image.found_boxes[found]) < difficulty.least_height
        self.regions = image.ignored_boxes[image.ignored_labels == 0]
        self.found = image.found_boxes[found]
        self.overlap = overlap
        shared = _shared(np.concatenate([boxes, image.ignored_boxes[near]]), self.found)
        self.overlaps = shared.of_union
        within = _shared(self.regions, self.found).of_second > overlap
        self.in_regions = np.logical_or.reduce(within, axis=0)

    def scores_of_hits(self) -> list[float]:
        """Each object takes, of the detections that are of it, the one of the highest score that is still free."""
        free, scores = np.ones(len(self.scores), bool), []
        for number, counts in enumerate(self.counts):
            able = free & (self.overlaps[number] > self.overlap)
            if able.any():
                taken = int(np.where(able, self.scores, -np.inf).argmax())
                free[taken] = False
                if counts and not self.small[taken]:
                    scores.append(float(self.scores[taken]))
        return scores

    def hits_and_false(self, threshold: float) -> tuple[int, int]:
        """Of the detections with this score or a higher one: how many are hits, and how many are of nothing. Here an
        object takes the one that overlaps it most, and small ones only if there is no other."""
        free, hits = self.scores >= threshold, 0
        for number, counts in enumerate(self.counts):
            able = free & (self.overlaps[number] > self.overlap)
            if not able.any():
                continue
            large = able & ~self.small
            taken = int(np.where(large, self.overlaps[number], -1.0).argmax() if large.any() else able.argmax())
            free[taken] = False
            hits += bool(counts and not self.small[taken])
        return hits, int((free & ~self.small & ~self.in_regions).sum())


class _Shared(NamedTuple):
    """Of each pair of boxes, [n, m], what they share."""

    of_union: NDArray[np.float64]
    of_second: NDArray[np.float64]


def _shared(first: NDArray[np.float64], second: NDArray[np.float64]) -> _Shared:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    both = (high - low).clip(min=0.0).prod(axis=2)
    least = np.finfo(float).tiny  # a box without area shares nothing
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1).clip(min=least) for boxes in (first, second)]
    return _Shared(both / (areas[0][:, None] + areas[1][None] - both), both / areas[1][None])


def _heights(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes[:, 3] - boxes[:, 1]
