"""Average precision: KITTI's against a slow reference, and what a trial on it reports."""

import numpy as np
import pytest
import torch

from lerac_experiments.training.kitti_precision import (
    DIFFICULTIES,
    Difficulty,
    KittiImage,
    average_precisions,
    kitti_precisions,
)
from lerac_experiments.training.precision import mean_average_precision, precisions

CAR = 1


def overlap(a: list[float], b: list[float], *, of_b: bool = False) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (areas[1] if of_b else areas[0] + areas[1] - width * height)


def reference(images: list[KittiImage], label: int, least: float, difficulty: Difficulty) -> tuple[float, float]:
    """The rules of the benchmark, image by image and box by box, without arrays."""

    def scene(image: KittiImage) -> tuple[list[tuple[list[float], bool]], list[dict], list[list[float]]]:
        objects = []
        for box, kind, truncated, occluded in zip(*(values.tolist() for values in image[:4]), strict=True):
            if kind == label:
                tall = box[3] - box[1] >= difficulty.least_height
                visible = occluded <= difficulty.most_occluded and truncated <= difficulty.most_truncated
                objects.append((box, tall and visible))
        pairs = list(zip(image.ignored_boxes.tolist(), image.ignored_labels.tolist(), strict=True))
        objects += [(box, False) for box, kind in pairs if kind == label]
        found = [
            {"box": box, "score": score, "small": box[3] - box[1] < difficulty.least_height}
            for box, kind, score in zip(*(values.tolist() for values in image[6:]), strict=True)
            if kind == label
        ]
        return objects, found, [box for box, kind in pairs if kind == 0]

    scenes = [scene(image) for image in images]
    scores, total = [], 0
    for objects, found, _ in scenes:
        used = set()
        for box, counts in objects:
            total += counts
            best = None
            for number, each in enumerate(found):
                higher = best is None or each["score"] > found[best]["score"]
                if number not in used and overlap(box, each["box"]) > least and higher:
                    best = number
            if best is not None:
                used.add(best)
                if counts and not found[best]["small"]:
                    scores.append(found[best]["score"])
    scores.sort(reverse=True)
    thresholds, recall = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / total
        right = (i + 2) / total if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    values = [0.0] * 41
    for point, threshold in enumerate(thresholds[:41]):
        hits = false = 0
        for objects, found, regions in scenes:
            used = set()
            for box, counts in objects:
                best, most = None, -1.0
                for number, each in enumerate(found):
                    shared = overlap(box, each["box"])
                    if number in used or each["score"] < threshold or shared <= least:
                        continue
                    if not each["small"] and (best is None or found[best]["small"] or shared > most):
                        best, most = number, shared
                    elif each["small"] and best is None:
                        best = number
                if best is not None:
                    used.add(best)
                    hits += counts and not found[best]["small"]
            for number, each in enumerate(found):
                if number in used or each["score"] < threshold or each["small"]:
                    continue
                false += not any(overlap(region, each["box"], of_b=True) > least for region in regions)
        values[point] = hits / max(1, hits + false)
    for point in range(39, -1, -1):
        values[point] = max(values[point], values[point + 1])
    return sum(values[::4]) / 11, sum(values[1:]) / 40


def scattered(seed: int) -> KittiImage:
    """Objects of all kinds, and detections near to some of them and anywhere else."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corners = rng.uniform(0, 200, (count, 2))
        return np.concatenate([corners, corners + rng.uniform(15, 80, (count, 2))], axis=1)

    truth, ignored = boxes(6), boxes(3)
    labels, near_to = rng.integers(1, 3, 6), rng.integers(0, 3, 3)
    # Most are of what is there, some of it twice.
    chosen = rng.permutation(15)[:9]
    near = np.concatenate([truth, ignored, truth])[chosen]
    found = np.concatenate([near + rng.normal(0, 2, near.shape), boxes(2)])
    found_labels = np.concatenate([np.concatenate([labels, near_to, labels])[chosen], rng.integers(1, 3, 2)])
    return KittiImage(
        truth,
        labels,
        rng.choice([0.0, 0.0, 0.2, 0.6], 6),
        rng.choice([0, 0, 1, 2, 3], 6),
        ignored,
        near_to,
        found,
        found_labels,
        rng.uniform(0.0, 1.0, 11),
    )


@pytest.mark.parametrize("difficulty", DIFFICULTIES, ids=lambda difficulty: difficulty.name)
@pytest.mark.parametrize("least", [0.5, 0.7])
def test_kittis_rules(difficulty: Difficulty, least: float) -> None:
    images = [scattered(seed) for seed in range(150)]
    ours = average_precisions(images, CAR, least, difficulty)
    assert 0.05 < ours[0] < 0.99
    assert ours == pytest.approx(reference(images, CAR, least, difficulty))


def image(found: list[tuple[list[float], float]], **changes: list) -> KittiImage:
    """A car of 60 pixels' height at the left; and what is changed of it."""
    values = {
        "boxes": [[0, 0, 60, 60]],
        "labels": [CAR],
        "truncated": [0.0],
        "occluded": [0],
        "ignored_boxes": np.zeros((0, 4)),
        "ignored_labels": [],
        "found_boxes": np.reshape([box for box, _ in found], (-1, 4)),
        "found_labels": [CAR] * len(found),
        "found_scores": [score for _, score in found],
        **changes,
    }
    return KittiImage(*(np.asarray(values[name]) for name in KittiImage._fields))


HIT, STRAY = ([0.0, 0.0, 60.0, 60.0], 0.5), ([100.0, 0.0, 160.0, 60.0], 0.9)


@pytest.mark.parametrize(
    ("scene", "wanted"),
    [
        (image([HIT]), 1.0),
        (image([HIT, STRAY]), 0.5),
        (image([HIT, STRAY], ignored_boxes=[[100, 0, 160, 60]], ignored_labels=[CAR]), 1.0),
        (image([HIT, STRAY], ignored_boxes=[[90, 0, 200, 90]], ignored_labels=[0]), 1.0),
        (image([HIT, STRAY], ignored_boxes=[[100, 0, 160, 60]], ignored_labels=[2]), 0.5),
        (image([HIT, ([100.0, 0.0, 160.0, 39.0], 0.9)]), 1.0),
        (image([HIT, STRAY], found_labels=[CAR, 2]), 1.0),
    ],
    ids=["hit", "stray", "a van", "a region without annotation", "near to another class", "too small", "another class"],
)
def test_what_is_ignored_is_not_wrong(scene: KittiImage, wanted: float) -> None:
    """One object is one threshold, the first of 41, which stands for a recall of 0: of eleven points it is one."""
    eleven, _ = average_precisions([scene], CAR, 0.7, DIFFICULTIES[0])
    assert eleven == pytest.approx(wanted / 11)


def test_a_difficulty_without_objects_has_no_precision() -> None:
    found = kitti_precisions([image([HIT], occluded=[2], truncated=[0.5])])
    assert set(found) == {"Car hard, 11 points", "Car hard, 40 points"}


def test_a_detection_without_area_is_of_nothing() -> None:
    flat = ([10.0, 0.0, 10.0, 60.0], 0.9)
    scene = image([HIT, flat], ignored_boxes=[[0, 0, 60, 0]], ignored_labels=[0])
    assert average_precisions([scene], CAR, 0.7, DIFFICULTIES[0])[0] == pytest.approx(0.5 / 11)


def test_hard_objects_count_where_they_are_allowed() -> None:
    scene = image([HIT], occluded=[2], truncated=[0.5])
    assert [average_precisions([scene], CAR, 0.7, each)[0] > 0 for each in DIFFICULTIES] == [False, False, True]


def test_vocs_and_cocos_precision() -> None:
    """Two objects, found with a false one between them: by hand."""
    detected = {
        "boxes": torch.tensor([[0.0, 0, 50, 50], [200, 0, 250, 50], [100, 0, 140, 50]]),
        "labels": torch.tensor([1, 1, 1]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
    }
    target = {"boxes": torch.tensor([[0.0, 0, 50, 50], [100, 0, 150, 50]]), "labels": torch.tensor([1, 1])}
    found = [(detected, target)]
    named = precisions(found)
    assert [*named] == ["VOC 2007, 11 points", "COCO, 0.5 to 0.95"]
    # Precision 1 up to a recall of one half, and two thirds up to 1.
    assert named["VOC 2007, 11 points"] == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert mean_average_precision(found, [0.5]) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    # The second overlaps by 0.8: at 0.8 it still counts, at 0.85, 0.9 and 0.95 the first alone does.
    assert named["COCO, 0.5 to 0.95"] == pytest.approx((7 * (51 + 50 * 2 / 3) + 3 * 51) / 10 / 101, abs=1e-3)
