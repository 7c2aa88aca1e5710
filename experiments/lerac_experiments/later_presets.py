"""Presets of what came beside the papers' main tables: the review of LeRaC and its later version, and the figures and
further data sets of data parameters."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

from lerac_experiments.combinations import CURRICULA, DCL_RUNS, RUNS, SIGMA_BOUNDS, trials_of
from lerac_experiments.settings import Initializer, Protocol
from lerac_experiments.trials.trial import Trial

CURVES = ("lerac-linear", "lerac-logarithmic", "lerac-cosine", "lerac")

LEARNING_RATES = {"SGD": 1e-1, "Adam": 1e-3, "AdamW": 1e-3, "Adamax": 2e-3}
"""Of the optimizers that LeRaC is crossed with: usual ones, for the reviewers do not give any. LeRaC's lowest rate is
to each as it is to SGD's in the paper."""
LOWEST = 1e-7
"""LeRaC's lowest rate, of the base rate."""

COMPARATORS = ("efficient-train", "low-frequency", "rand-augment", "label-similarity")
"""That the review asks for; and the two parts of EfficientTrain, each alone."""


def _review() -> list[Trial]:
    """What the reviewers of LeRaC asked for: its curves against each other and against warm-up with a cosine, its
    comparators, all of ImageNet, and its initial weights and optimizers."""
    seeds = range(RUNS)
    data = ("cifar10", "cifar100")
    cosine = Protocol(schedule="cosine", stop_patience=None)
    return [
        *trials_of(("resnet18", "cvt13"), data, ("conventional", "warm-up+cosine", *CURVES), seeds),
        *trials_of(("resnet18", "cvt13"), data, ("conventional", "lerac", *COMPARATORS), seeds, cosine),
        *trials_of(
            *(("resnet18",), ("imagenet",), ("conventional", "cbs", "lerac", *COMPARATORS[:3]), seeds),
            replace(cosine, augment_images=True),
            epochs=100,
            batch_size=256,
        ),
        *(
            trial
            for initializer in get_args(Initializer)[1:]  # the first is the models' own, which is above
            for trial in trials_of(
                ("resnet18",), ("cifar10",), ("conventional", "lerac"), seeds, Protocol(initializer=initializer)
            )
        ),
        *(
            trial
            for name, lr in list(LEARNING_RATES.items())[1:]  # SGD is above
            for trial in trials_of(
                *(("resnet18",), ("cifar10",), ("conventional", "lerac"), seeds),
                optimizer=name,
                lr=lr,
                min_lr=LOWEST * lr,
            )
        ),
    ]


def _random_labels() -> list[Trial]:
    """Saxena et al., section 3.5: VGG16 on CIFAR-100, whose labels are all drawn at random. Of 100 classes a random one
    is wrong 99 times in 100. Settings are not given; the rates fall late, so that there is time to memorise."""
    protocol = Protocol(
        schedule="steps", milestones=(0.6, 0.85), stop_patience=None, label_noise=0.99, sigma_bounds=SIGMA_BOUNDS
    )
    regimes = ("conventional", "dp-class", "dp-instance", "dp-joint")
    return trials_of(("vgg16",), ("cifar100",), regimes, range(DCL_RUNS), protocol)


def _figure4() -> list[Trial]:
    """Saxena et al., Figure 4, and that of the supplementary: temperatures of right and of wrong labels over the
    training. Of Table 2 the part on CIFAR-100: a folder with that one has these trials, too."""
    protocol = Protocol(
        schedule="steps",
        milestones=(80 / 84,),
        stop_patience=None,
        instance_lr=0.2,
        sigma_bounds=SIGMA_BOUNDS,
        augment_images=True,
    )
    return [
        trial
        for noise in (0.2, 0.4, 0.8)
        for trial in trials_of(
            ("wrn-28-10",),
            ("cifar100",),
            ("conventional", "dp-instance"),
            range(DCL_RUNS),
            replace(protocol, label_noise=noise),
            epochs=84,
        )
    ]


def _webvision() -> list[Trial]:
    """Saxena et al., Table 1: ResNet-18 on WebVision, trained as on ImageNet."""
    protocol = Protocol(
        schedule="steps", milestones=(0.3, 0.6, 0.9), stop_patience=None, augment_images=True, instance_lr=0.8
    )
    return trials_of(
        *(("resnet18",), ("webvision",), ("conventional", "dp-instance", "dp-joint"), range(DCL_RUNS), protocol),
        epochs=100,
        batch_size=256,
        weight_decay=1e-4,
    )


def _kitti() -> list[Trial]:
    """Saxena et al., Figure 2: SSD on KITTI, with temperatures of boxes, at a rate of 0.1, without momentum and weight
    decay. How long they train is not said: here as the model, the rate falling as in the paper of SSD."""
    protocol = Protocol(schedule="steps", milestones=(2 / 3, 5 / 6), stop_patience=None, instance_lr=0.1)
    return trials_of(("ssd",), ("kitti",), ("conventional", "dp-instance"), range(DCL_RUNS), protocol)


LATER_PRESETS: dict[str, Callable[[], list[Trial]]] = {
    "review": _review,
    "lerac-ijcv": partial(
        trials_of,
        ("resnet18", "wide-resnet50", "cvt13"),
        ("utkface", "imagenet200", "food101"),
        CURRICULA,
        range(RUNS),
    ),
    "dcl-figure4": _figure4,
    "dcl-random": _random_labels,
    "dcl-webvision": _webvision,
    "dcl-kitti": _kitti,
    "lerac-yolo": partial(
        trials_of,
        *(("yolo",), ("voc",), CURRICULA, range(RUNS), Protocol(schedule="cosine", stop_patience=None, mosaic=True)),
    ),
}
"""By their names on the command line."""
