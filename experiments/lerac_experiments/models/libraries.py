"""Models of libraries, by their names there: with random weights, or with pre-trained ones where they can be had."""

import difflib
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from lerac_experiments.data.own.places import digest
from lerac_experiments.data.source import Parts, data_folder
from lerac_experiments.errors import ExperimentError, Unavailable
from lerac_experiments.models.adapters import adapted, fit_channels, fit_classes
from lerac_experiments.models.shapes import image_shape
from lerac_experiments.models.weights import CONFIGURATION, only_what_can_be_reached, pretrained_folder, quiet_loading

Options = dict[str, Any]

MOST_SAID = 400
"""Characters of an error of a library's: transformers lists all its models."""

PRETRAINED = "pretrained"
"""The option that asks for such weights."""

CHECKPOINT = "checkpoint_path"
"""The option of timm's that names a file of weights."""


def build_timm(spec: str, name: str, options: Options, parts: Parts) -> nn.Module:
    """timm's of this name, fitted to the channels, to the classes and, where it takes one size only, to the images."""
    timm = _library("timm", spec)
    if not timm.is_model(name):
        raise _unknown(spec, name, timm.list_models())
    channels, height, width = image_shape(parts)
    arguments: Options = {"num_classes": parts.classes, "in_chans": channels}
    known = timm.get_pretrained_cfg(name)
    if known is not None and known.fixed_input_size:
        arguments["img_size"] = (height, width)
    with _downloading(spec, options), _building(spec):
        return adapted(timm.create_model(name, **arguments | options), parts, spec)


def build_torchvision(spec: str, name: str, options: Options, parts: Parts) -> nn.Module:
    """torchvision's classifier or detector of this name, fitted to the channels and classes."""
    from torchvision import models
    from torchvision.models import detection

    boxes = parts.task == "detection"
    known = models.list_models(module=detection if boxes else models)
    if name not in known:
        raise _unknown(spec, name, known, "detector" if boxes else "classifier")
    pretrained, options = _split(options)
    weights = "DEFAULT" if pretrained else None
    if name.startswith("vit_"):  # which takes one size only
        options = {"image_size": image_shape(parts)[1], **options}
    with _downloading(spec, {PRETRAINED: pretrained}), _building(spec):
        if boxes:
            model = models.get_model(name, weights=None, weights_backbone=weights, num_classes=parts.classes, **options)
        elif pretrained:
            model = models.get_model(name, weights=weights, **options)
            fit_classes(model, parts.classes)
        else:
            model = models.get_model(name, weights=None, num_classes=parts.classes, **options)
        if not boxes:
            fit_channels(model, image_shape(parts)[0])
    return adapted(model, parts, spec)


def build_transformers(spec: str, name: str, options: Options, parts: Parts, folder: Path | None) -> nn.Module:
    """transformers' classifier of texts or images: of a type (`bert`), whose configuration is the usual one but for the
    options; or of a configuration in a folder, or on the Hugging Face hub. Random weights are for the vocabulary of the
    data, or the size of its images."""
    import transformers

    _, options = _split(options)
    config = _configuration(spec, name, folder)
    changes = {"num_labels": parts.classes, **options}
    text = isinstance(parts.train.__getitems__([0]).inputs, dict)
    if text:
        kind = transformers.AutoModelForSequenceClassification
        vocabulary = {} if folder else {"vocab_size": parts.vocabulary}
        changes = {"pad_token_id": 0, **vocabulary, **changes}
    else:
        kind = transformers.AutoModelForImageClassification
        channels, height, width = image_shape(parts)
        changes = {"num_channels": channels, "image_size": (height, width), **changes}
    if type(config) not in kind._model_mapping:
        what = "texts" if text else "images"
        raise ExperimentError(f"{spec}: transformers has no {config.model_type!r} that classifies {what}")
    for key, value in changes.items():
        if not hasattr(config, key):
            if key in options:
                raise ExperimentError(f"{spec}: {type(config).__name__} has no {key!r}")
            continue  # of convolutional networks, say, which take images of any size
        setattr(config, key, value)
    if text and parts.vocabulary is not None and config.vocab_size < parts.vocabulary:
        raise ExperimentError(f"{spec}: it knows {config.vocab_size} tokens, and the texts have {parts.vocabulary}")
    with quiet_loading(), _building(spec):
        if folder is None:
            model = kind.from_config(config)
        else:
            model = kind.from_pretrained(folder, config=config, local_files_only=True, ignore_mismatched_sizes=True)
    return adapted(model, parts, spec)


def transformers_weights(name: str) -> Callable[[], Path]:
    """Finds the folder with the pre-trained weights: one given as such, or as `pretrained_folder` has it."""
    given = Path(name).expanduser()
    return (lambda: given) if (given / CONFIGURATION).is_file() else pretrained_folder(name, name)


def local_files(library: str, name: str, options: Options) -> tuple[Path, ...]:
    """The files of this machine that decide what a model is: a configuration, and weights that are asked for."""
    if library == "timm" and options.get(CHECKPOINT):
        path = Path(str(options[CHECKPOINT])).expanduser()
        return (path,) if path.is_file() else ()
    if library != "transformers":
        return ()
    folder = next((each for each in _local_folders(name) if (each / CONFIGURATION).is_file()), None)
    if folder is None:
        return ()
    return (
        tuple(sorted(each for each in folder.iterdir() if each.is_file()))
        if options.get(PRETRAINED)
        else (folder / CONFIGURATION,)
    )


def content_of(files: Sequence[Path]) -> str:
    """Hexadecimal digits that the names and the content of files decide."""
    return digest(((path.name, path) for path in files), whole=lambda _: True)


def _local_folders(name: str) -> list[Path]:
    """Where a model of transformers' may lie on this machine."""
    return [Path(name).expanduser(), data_folder() / "models" / name]


def _configuration(spec: str, name: str, folder: Path | None) -> Any:
    import transformers

    if folder is None and name in transformers.CONFIG_MAPPING:
        return transformers.AutoConfig.for_model(name)
    places = [folder] if folder else _local_folders(name)
    place = next((each for each in places if (each / CONFIGURATION).is_file()), None)
    try:
        with only_what_can_be_reached():
            return transformers.AutoConfig.from_pretrained(name if place is None else place)
    except Exception as error:  # of the network, the server, or the file
        types = difflib.get_close_matches(name, transformers.CONFIG_MAPPING, n=3)
        raise Unavailable(
            f"{spec}: {name} is no type of model that transformers knows{_meant(types)}, {places[-1]} has no "
            f"{CONFIGURATION}, and https://huggingface.co/{name} could not be read ({type(error).__name__})"
        ) from error


def _split(options: Options) -> tuple[bool, Options]:
    """Whether pre-trained weights are asked for, and the other options."""
    return bool(options.get(PRETRAINED)), {name: value for name, value in options.items() if name != PRETRAINED}


def _library(name: str, spec: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ExperimentError(f"{spec}: {name} is not installed: pip install {name}") from None


def _unknown(spec: str, name: str, known: Iterable[str], what: str = "model") -> ExperimentError:
    library = spec.partition(":")[0]
    close = difflib.get_close_matches(name, known, n=5)
    return ExperimentError(f"{spec}: {library} has no {what} {name!r}{_meant(close)}")


def _meant(close: list[str]) -> str:
    return f" (did you mean {' or '.join(close)}?)" if close else ""


@contextmanager
def _building(spec: str) -> Iterator[None]:
    """What a library does not like about the sizes or the options is said in one line."""
    try:
        yield
    except ExperimentError:
        raise
    except Exception as error:  # libraries raise whatever they like
        said = textwrap.shorten(f"{type(error).__name__}: {error}", MOST_SAID)
        raise ExperimentError(f"{spec} could not be built: {said}") from error


@contextmanager
def _downloading(spec: str, options: Options) -> Iterator[None]:
    """Weights that cannot be had are told from other errors: those of this machine, without a network."""
    try:
        with only_what_can_be_reached() if options.get(PRETRAINED) else nullcontext():
            yield
    except ExperimentError as error:
        cause = error.__cause__
        if not options.get(PRETRAINED) or cause is None or isinstance(cause, TypeError | ValueError | AssertionError):
            raise
        raise Unavailable(
            f"{spec}: the pre-trained weights are not on this machine and could not be downloaded "
            f"({type(cause).__name__}). Leave `,{PRETRAINED}` out for random weights, or load the model once where "
            "there is a network"
        ) from cause
