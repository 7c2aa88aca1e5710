"""Models by what is said of them: the names of this package's, those of libraries, and functions of one's own.

Beside the names of `MODELS` these are understood:

- `FILE.py:FUNCTION`, `package.module:FUNCTION`: a function or class of one's own, which is called and gives an
  nn.Module. It gets, by name, those of the arguments in `offered` that it has parameters for.
- `timm:NAME`, `torchvision:NAME`, `transformers:NAME`: a model of that library.

Options may follow, after commas: `model.py:make,width=32`, `timm:resnet10t,pretrained`, `timm:resnet18,drop_rate=0.1`,
`transformers:bert,num_hidden_layers=2`. They are arguments of the function, or of what makes the model in the library;
of transformers, settings of its configuration. `max_length=128` and `unit=words` (in place of `unit=wordpiece`) say how
a text is read.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

from torch import Tensor, nn

from lerac_experiments.data.source import Kind, Parts, TextEncoding
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models import MODELS
from lerac_experiments.models.adapters import adapted
from lerac_experiments.models.libraries import (
    CHECKPOINT,
    PRETRAINED,
    Options,
    build_timm,
    build_torchvision,
    build_transformers,
    content_of,
    local_files,
    transformers_weights,
)
from lerac_experiments.models.smoothing import smoothing_of
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.models.usual import usual_settings
from lerac_experiments.own_code.functions import OwnFunction, options_of
from lerac_experiments.own_code.source import digest

FORMS = {
    "FILE.py:FUNCTION": "a function or class of one's own that gives an nn.Module; options: FILE.py:FUNCTION,width=32",
    "package.module:FUNCTION": "likewise, of a module that can be imported",
    "timm:NAME": "a model of timm; timm:NAME,pretrained with its weights",
    "torchvision:NAME": "a classifier or detector of torchvision",
    "transformers:NAME": "a classifier of transformers, by its type: transformers:bert,num_hidden_layers=2",
}
"""Of models that are not this package's, and what they are."""

_LONGEST_TITLE = 40

_KINDS: dict[str, tuple[Kind, ...]] = {
    "timm": ("image", "audio"),
    "torchvision": ("image", "audio", "detection"),
    "transformers": ("text", "image", "audio"),
}
"""Of the data that models of a library take."""


def find_model(spec: str) -> ModelSpec:
    """The model that a text stands for. Nothing of it is imported or looked for yet.

    Raises:
        ExperimentError: nothing is called so, nor is it of one of the `FORMS`.
    """
    if spec in MODELS:
        return MODELS[spec]
    if ":" in spec:
        name, options = options_of(spec)
        library, _, model = name.partition(":")
        if library in _KINDS and model:
            return _of_library(spec, library, model, options)
        if function := OwnFunction.parse(name):
            return _own(spec, function, options)
    raise ExperimentError(f"model {spec!r} is unknown: choose one of {', '.join(MODELS)}; or give {', '.join(FORMS)}")


def source_files(spec: str) -> list[Path]:
    """The files of a model of one's own; of others, none."""
    function = None if spec in MODELS else OwnFunction.parse(options_of(spec)[0])
    return [] if function is None or function.spec.partition(":")[0] in _KINDS else function.files()


def offered(parts: Parts, encoding: TextEncoding) -> dict[str, Any]:
    """The arguments that a function of one's own may ask for, by their names:

    - input_shape: of one example: (channels, height, width) of images and of spectrograms, which have one channel;
      (columns,) of a table; (max_length,) of texts, in tokens; (channels, None, None) of images of various sizes.
    - channels: the first of these.
    - classes, or num_classes: how many there are; of detection with 0 for the background; 1 of a regression.
    - vocabulary: of texts: how many tokens there are, of which 0 is padding; else None.
    - max_length: of texts: in tokens, at most; else None.
    - task: "classification", "regression" or "detection".
    """
    inputs = parts.train.__getitems__([0]).inputs
    shape: tuple[int | None, ...]
    if isinstance(inputs, Tensor):
        shape = tuple(inputs.shape[1:])
    elif isinstance(inputs, dict):
        shape = (encoding.max_length,)
    else:
        shape = (inputs[0].shape[0], None, None)
    text = isinstance(inputs, dict)
    return {
        "input_shape": shape,
        "channels": shape[0],
        "classes": parts.classes,
        "num_classes": parts.classes,
        "vocabulary": parts.vocabulary,
        "max_length": encoding.max_length if text else None,
        "task": parts.task,
    }


def _own(spec: str, function: OwnFunction, options: Options) -> ModelSpec:
    encoding, options = _encoding(spec, options)

    def build(parts: Parts, _: Path | None) -> nn.Module:
        return adapted(function.call(offered(parts, encoding), options), parts, spec)

    return _spec(spec, get_args(Kind), build, encoding, fingerprint=function.fingerprint)


def _of_library(spec: str, library: str, name: str, options: Options) -> ModelSpec:
    encoding, rest = _encoding(spec, options) if library == "transformers" else (None, options)
    build: Callable[[Parts, Path | None], nn.Module]
    weights, trained = None, bool(options.get(PRETRAINED) or options.get(CHECKPOINT))
    files = local_files(library, name, options)
    content = partial(content_of, files) if files else None
    if library == "transformers":
        weights = transformers_weights(name) if options.get(PRETRAINED) else None

        def build(parts: Parts, folder: Path | None) -> nn.Module:
            return build_transformers(spec, name, rest, parts, folder)

    else:
        make = build_timm if library == "timm" else build_torchvision

        def build(parts: Parts, _: Path | None) -> nn.Module:
            return make(spec, name, rest, parts)

    return _spec(spec, _KINDS[library], build, encoding, trained, weights, content)


def _spec(
    spec: str,
    kinds: tuple[Kind, ...],
    build: Callable[[Parts, Path | None], nn.Module],
    encoding: TextEncoding | None,
    pretrained: bool = False,
    weights: Callable[[], Path] | None = None,
    fingerprint: Callable[[], str] | None = None,
) -> ModelSpec:
    return ModelSpec(
        spec,
        _title(spec),
        kinds,
        build,
        encoding=encoding,
        pretrained=weights,
        starts_trained=pretrained,
        usual=partial(usual_settings, pretrained=pretrained),
        find_smoothing=smoothing_of,
        fingerprint=fingerprint,
    )


def _title(spec: str) -> str:
    """The text itself; a long one without folders and options, but with some digits that these decide."""
    if len(spec) <= _LONGEST_TITLE:
        return spec
    place, _, name = options_of(spec)[0].rpartition(":")
    return f"{Path(place).name}:{Path(name).name} #{digest(spec)[:4]}"


def _encoding(spec: str, options: Options) -> tuple[TextEncoding, Options]:
    """How the model reads texts, and the options that are not about that."""
    rest = dict(options)
    unit, max_length = rest.pop("unit", "wordpiece"), rest.pop("max_length", 128)
    if unit not in ("words", "wordpiece"):
        raise ExperimentError(f"{spec}: unit must be words or wordpiece, got {unit!r}")
    if not isinstance(max_length, int) or max_length < 4:
        raise ExperimentError(f"{spec}: max_length must be a whole number of tokens, 4 or more, got {max_length!r}")
    return TextEncoding(unit, max_length), rest
