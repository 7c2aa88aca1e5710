"""What a record must hold to be read: by `run`, which does not do again what is done, and by `report`."""

import base64
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from lerac_experiments.errors import ExperimentError

DONE, FAILED, UNAVAILABLE = "done", "failed", "unavailable"

Form: TypeAlias = "type | tuple[type, ...] | Mapping[str, Form]"
"""What kind a value has to be of; or, of an object, its values."""

_NUMBER = (int, float)
_TEXT_OR_NONE = (str, type(None))

_OF_ALL: Form = {"trial": {"id": str}, "status": str}

_OF_STATUS: Mapping[str, Form] = {
    DONE: {
        "result": {
            "metric": str,
            "higher_is_better": bool,
            "test": _NUMBER,
            "test_loss": _NUMBER,
            "validation": _NUMBER,
            "best_epoch": int,
        },
        "sizes": {"train": int, "validation": int, "test": int},
        "data": {"source": str, "note": _TEXT_OR_NONE},
        "model": {"parameters": int, "layers": int, "groups": int},
        "epochs": list,
        "rates": {"steps": list, "first_middle_last": list},
        "steps_per_epoch": int,
        "ranks": int,
        "device": str,
        "environment": {
            "machine": {"cpu": str, "cores": (int, type(None)), "threads": int, "system": str},
            "versions": {"python": str, "torch": str, "lerac_fast": str},
        },
    },
    FAILED: {"error": str},
    UNAVAILABLE: {"error": str},
}

_OF_EPOCH: Form = {"train_loss": _NUMBER, "validation_loss": _NUMBER, "validation_metric": _NUMBER, "seconds": _NUMBER}


def check_record(content: Any) -> dict[str, Any]:
    """Returns the record.

    Raises:
        ExperimentError: something is missing or of a wrong kind. It is named.
    """
    _check(content, _OF_ALL, "the record")
    if content["status"] not in _OF_STATUS:
        raise ExperimentError(f"status is {content['status']!r}, not one of {', '.join(_OF_STATUS)}")
    _check(content, _OF_STATUS[content["status"]], "the record")
    if content["status"] == DONE:
        _check_done(content)
    return dict(content)


def _check_done(content: Mapping[str, Any]) -> None:
    if not content["epochs"]:
        raise ExperimentError("epochs is empty")
    for number, epoch in enumerate(content["epochs"]):
        place = f"epochs.{number}"
        _check(epoch, _OF_EPOCH, place)
        for name, value in epoch.items():
            _check(value, _NUMBER, f"{place}.{name}")
    steps, rates = content["rates"]["steps"], content["rates"]["first_middle_last"]
    if len(steps) != len(rates) or not all(isinstance(row, list) and len(row) == 3 for row in rates):
        raise ExperimentError(f"rates are not those of three layers at each of {len(steps)} steps")
    _check_correct(content["result"].get("correct"), content["sizes"]["test"])


def _check_correct(correct: Any, examples: int) -> None:
    try:
        if correct is not None and len(base64.b64decode(correct, validate=True)) != math.ceil(examples / 8):
            raise ExperimentError(f"result.correct is not of {examples} examples")
    except (ValueError, TypeError) as error:
        raise ExperimentError(f"result.correct is damaged: {error}") from error


def _check(value: Any, form: Form, place: str) -> None:
    if not isinstance(form, Mapping):
        if not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
            raise ExperimentError(f"{place} is {_shown(value)}")
        return
    if not isinstance(value, Mapping):
        raise ExperimentError(f"{place} is {_shown(value)}, no object")
    for name, part in form.items():
        if name not in value:
            raise ExperimentError(f"{place} has no {name}")
        _check(value[name], part, name if place == "the record" else f"{place}.{name}")


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
