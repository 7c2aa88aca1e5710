"""How models that no paper trains are trained, if nothing else is said: by the kind of the data.

| data | optimizer | lr .. min_lr | batch | epochs |
|---|---|---|---|---|
| images, sound, tables | AdamW, weight decay 0.01 | 1e-3 .. 1e-8 | 64 | 30 |
| images, sound, from pre-trained weights | AdamW, weight decay 0.01 | 1e-4 .. 1e-10 | 64 | 10 |
| text | AdamW, weight decay 0.01 | 3e-4 .. 3e-8 | 32 | 15 |
| text, from pre-trained weights | AdamW, weight decay 0.01 | 5e-5 .. 5e-8 | 16 | 5 |
| detection | SGD, momentum 0.9, weight decay 5e-4 | 5e-3 .. 5e-10 | 8 | 30 |

AdamW, because it trains convolutions and attention alike without being tuned, at its usual rate of 1e-3; transformers
for text are less steady at that, and pre-trained weights would be lost. Detectors as torchvision's, by SGD. The decades
from lr to min_lr are those of Table 1 of Croitoru et al. for the nearest of their models: 5 for CvT-13, 6 for that
pre-trained, 4 for the LSTM, 3 for BERT-large, 7 for ResNets. LeRaC lasts a tenth of the training (there 4% to 40%), and
CBS retires, after seventeen narrowings by a tenth, at two fifths of it (Sinha et al.: 85 of 200 epochs).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lerac_experiments.data.source import DataSet
from lerac_experiments.settings import Settings

LERAC_SHARE = 0.1
"""Of the epochs."""
SMOOTHING_SHARE = 0.4
NARROWINGS = 17
"""Of sigma 1 by 0.9, until a Gaussian is the identity in float32."""

USUAL_SETTINGS = Settings("AdamW", lr=1e-3, min_lr=1e-8, batch_size=64, epochs=30, lerac_epochs=3, weight_decay=1e-2)
"""Of images, sound and tables."""

_OF_TEXT = replace(USUAL_SETTINGS, lr=3e-4, min_lr=3e-8, batch_size=32, epochs=15)
_OF_BOXES = Settings("SGD", lr=5e-3, min_lr=5e-10, batch_size=8, epochs=30, lerac_epochs=3, weight_decay=5e-4)


def usual_settings(data: DataSet, given: Mapping[str, Any], *, pretrained: bool) -> Settings:
    """Those of the table above, with what is given in their place. What depends on others follows them: min_lr keeps
    its decades below lr, and k and u their shares of the epochs."""
    if data.kind == "detection":
        usual = _OF_BOXES
    elif data.kind == "text":
        usual = replace(_OF_TEXT, lr=5e-5, min_lr=5e-8, batch_size=16, epochs=5) if pretrained else _OF_TEXT
    else:
        usual = replace(USUAL_SETTINGS, lr=1e-4, min_lr=1e-10, epochs=10) if pretrained else USUAL_SETTINGS
    ratio = usual.min_lr / usual.lr
    usual = replace(usual, **given)
    derived: dict[str, Any] = {
        "min_lr": float(f"{usual.lr * ratio:.2g}"),
        "lerac_epochs": round(LERAC_SHARE * usual.epochs, 2),
        "cbs_every": round(SMOOTHING_SHARE * usual.epochs / NARROWINGS, 3),
    }
    return replace(usual, **{name: value for name, value in derived.items() if name not in given})
