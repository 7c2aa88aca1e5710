"""The tables of the paper on LeRaC (Croitoru et al.), and what its later version adds."""

from lerac_experiments.presets.combinations import CURRICULA, RUNS, trials_of
from lerac_experiments.settings import Protocol
from lerac_experiments.trials.trial import Trial

_IMAGES = ("cifar10", "cifar100", "tiny-imagenet")
_UPDATES = ("conventional", "cbs", "lerac-linear", "lerac", "cbs+lerac")


def table2() -> list[Trial]:
    models = ("resnet18", "wide-resnet50", "cvt13", "cvt13-pretrained")
    return trials_of(models, _IMAGES, CURRICULA, range(RUNS))


def table3() -> list[Trial]:
    return trials_of(("bert-large", "lstm"), ("boolq", "rte", "qnli"), CURRICULA, range(RUNS))


def table4() -> list[Trial]:
    return trials_of(("septr", "densenet121"), ("crema-d", "esc50"), CURRICULA, range(RUNS))


def table5() -> list[Trial]:
    return trials_of(("cvt13",), _IMAGES, _UPDATES, range(RUNS))


def later_images() -> list[Trial]:
    models, data = ("resnet18", "wide-resnet50", "cvt13"), ("utkface", "imagenet200", "food101")
    return trials_of(models, data, CURRICULA, range(RUNS))


def later_detection() -> list[Trial]:
    protocol = Protocol(schedule="cosine", stop_patience=None, mosaic=True)
    return trials_of(("yolo",), ("voc",), CURRICULA, range(RUNS), protocol)
