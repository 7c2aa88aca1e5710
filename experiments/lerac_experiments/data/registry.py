"""The data sets of the experiments, by their names on the command line."""

from lerac_experiments.data.boolq import BOOLQ
from lerac_experiments.data.cifar import CIFAR10, CIFAR10_SUBSET, CIFAR100
from lerac_experiments.data.crema_d import CREMA_D
from lerac_experiments.data.detection import BCCD, VOC
from lerac_experiments.data.digits import DIGITS
from lerac_experiments.data.esc50 import ESC50
from lerac_experiments.data.fashion_mnist import FASHION_MNIST
from lerac_experiments.data.food101 import FOOD_101
from lerac_experiments.data.glue import QNLI, RTE
from lerac_experiments.data.imagenet import IMAGENET, IMAGENET_200
from lerac_experiments.data.kitti import KITTI
from lerac_experiments.data.own.readers import FORMS, own_data
from lerac_experiments.data.source import DataSet
from lerac_experiments.data.spoken_digits import SPOKEN_DIGITS
from lerac_experiments.data.tiny_imagenet import TINY_IMAGENET
from lerac_experiments.data.trec import TREC
from lerac_experiments.data.utkface import UTKFACE
from lerac_experiments.data.webvision import WEBVISION
from lerac_experiments.errors import ExperimentError

_DATA_SETS = (
    CIFAR10,
    CIFAR100,
    CIFAR10_SUBSET,
    TINY_IMAGENET,
    IMAGENET,
    IMAGENET_200,
    WEBVISION,
    FOOD_101,
    UTKFACE,
    FASHION_MNIST,
    DIGITS,
    VOC,
    BCCD,
    KITTI,
    BOOLQ,
    QNLI,
    RTE,
    TREC,
    ESC50,
    CREMA_D,
    SPOKEN_DIGITS,
)

DATA: dict[str, DataSet] = {data.name: data for data in _DATA_SETS}


def find_data(spec: str) -> DataSet:
    """The data set of a name, or data of one's own, which is not looked at yet.

    Raises:
        ExperimentError: there is none of this name, and no `READER:PLACE`; or an option is wrong. The message names
            the choices.
    """
    if spec in DATA:
        return DATA[spec]
    own = own_data(spec)
    if own is None:
        raise ExperimentError(
            f"data {spec!r} is unknown: choose one of {', '.join(DATA)}; or data of your own: {', '.join(FORMS)}"
        )
    return own
