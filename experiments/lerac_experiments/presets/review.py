"""What the reviewers of LeRaC asked for."""

from dataclasses import replace
from typing import get_args

from lerac_experiments.presets.combinations import RUNS, trials_of
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


def review() -> list[Trial]:
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
