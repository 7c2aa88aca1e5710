"""The trials of the papers' tables, of what came beside them, and of what a CPU can do."""

from collections.abc import Callable

from lerac_experiments.presets import data_parameters, lerac, review, small
from lerac_experiments.trials.trial import Trial

PRESETS: dict[str, Callable[[], list[Trial]]] = {
    "table2": lerac.table2,
    "table3": lerac.table3,
    "table4": lerac.table4,
    "table5": lerac.table5,
    "dcl-table1": data_parameters.table1,
    "dcl-table2": data_parameters.table2,
    "small": small.small,
    "demo": small.demo,
    "demo-noise": small.demo_noise,
    "review": review.review,
    "lerac-ijcv": lerac.later_images,
    "dcl-figure4": data_parameters.figure4,
    "dcl-random": data_parameters.random_labels,
    "dcl-webvision": data_parameters.webvision,
    "dcl-kitti": data_parameters.kitti,
    "lerac-yolo": lerac.later_detection,
}
"""By their names on the command line."""
