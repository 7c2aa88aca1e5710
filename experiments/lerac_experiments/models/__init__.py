"""The networks of the experiments."""

from lerac_experiments.models.bert import BERT_LARGE, BERT_SMALL, MINILM
from lerac_experiments.models.cvt import CVT_13, CVT_13_PRETRAINED, CVT_SMALL
from lerac_experiments.models.densenet import DENSENET_121, DENSENET_SMALL
from lerac_experiments.models.lenet import LENET
from lerac_experiments.models.lstm import LSTM, LSTM_SMALL
from lerac_experiments.models.mlp import MLP
from lerac_experiments.models.resnet import RESNET_18, RESNET_SMALL, WIDE_RESNET_50, ResNet
from lerac_experiments.models.septr import SEPTR, SEPTR_SMALL
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.models.ssd import SSD, SSD_SMALL
from lerac_experiments.models.vgg import VGG_16
from lerac_experiments.models.wide_resnet import WRN_16_2, WRN_28_10
from lerac_experiments.models.yolo import YOLO, YOLO_SMALL
from lerac_experiments.settings import Settings

MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        *(RESNET_18, WIDE_RESNET_50, CVT_13, CVT_13_PRETRAINED, BERT_LARGE, LSTM, SEPTR, DENSENET_121),
        *(WRN_28_10, VGG_16, SSD, YOLO, LENET),
        *(RESNET_SMALL, CVT_SMALL, MINILM, BERT_SMALL, LSTM_SMALL, SEPTR_SMALL, DENSENET_SMALL, WRN_16_2, SSD_SMALL),
        YOLO_SMALL,
        MLP,
    )
}
"""By their names on the command line: of the LeRaC paper, of others, and small ones for a CPU."""

__all__ = ["MODELS", "ModelSpec", "ResNet", "Settings"]
