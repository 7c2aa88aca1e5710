"""What a trial is, and the name that its content gives it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.spec import Settings

Schedule = Literal["plateau", "steps", "cosine"]


@dataclass(frozen=True)
class Protocol:
    """What surrounds a training, whatever its model.

    Attributes:
        train_examples: How many examples to draw for training and validation; None, all.
        test_examples: How many test examples to draw; None, all.
        image_size: Height and width of images that come in various sizes; None, the usual one of the data set.
        schedule: How the rate falls: by 10 when the validation loss has reached a plateau, in steps at `milestones`, or
            as half a cosine. The regime warm-up+cosine has the cosine in any case.
        milestones: Of steps, as shares of the epochs.
        step_factor: What a step multiplies the rate by.
        plateau_patience: Epochs without a lower validation loss, until the rate falls.
        stop_patience: Epochs without a better validation, until training ends; None, never. Neither counts while LeRaC
            runs. The papers do not give their patience.
        label_noise: The share of wrong labels, among those to train with and to validate with alike.
        noise_free: Train with the right labels of the wrongly labelled data only: the oracle.
        class_lr: Of data parameters: the rate of the classes' temperatures.
        instance_lr: The rate of the examples' temperatures.
        sigma_bounds: What temperatures are kept within; 0.05 and 20 in the authors' code.
        warm_up_epochs: Of the regime warm-up+cosine; None, as many as LeRaC would take.
        augment: Whether data that the paper augments (speech) is.
        mix_up: Whether batches are mixed where data is augmented so (speech). A plan in which a regime learns
            temperatures, which mixed examples have none of, has it off for all that it is compared with.
        augment_images: Crop and mirror training images at random, which Croitoru et al. do not. Images in files are cut
            as is usual for ImageNet, those in memory shifted as is usual for CIFAR.
        by_speaker: Divide recordings of speech so that those who speak in one part speak in no other (crema-d). Not
            given, clips are divided, whoever speaks.
        nesterov: Nesterov's momentum, of SGD.
        precision: bfloat16: forward passes under torch.autocast.
    """

    train_examples: int | None = None
    test_examples: int | None = None
    image_size: int | None = None
    schedule: Schedule = "plateau"
    milestones: tuple[float, ...] = (0.5, 0.75)
    step_factor: float = 0.1
    plateau_patience: int = 5
    stop_patience: int | None = 15
    label_noise: float = 0.0
    noise_free: bool = False
    class_lr: float = 0.1
    instance_lr: float = 0.2
    sigma_bounds: tuple[float, float] | None = None
    warm_up_epochs: float | None = None
    augment: bool = True
    mix_up: bool = True
    augment_images: bool = False
    by_speaker: bool = False
    nesterov: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True)
class Trial:
    """One training, complete: what is equal here is the same experiment."""

    model: str
    data: str
    regime: str
    seed: int
    settings: Settings
    protocol: Protocol = Protocol()

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that its content decides."""
        return hashlib.sha256(canonical_json(self._content()).encode()).hexdigest()[:12]

    def _content(self) -> dict[str, Any]:
        """What decides. Values of the protocol that are the usual ones are left out, so that a later version can add
        some without giving other ids to the same trials."""
        usual = asdict(Protocol())
        protocol = {name: value for name, value in asdict(self.protocol).items() if value != usual[name]}
        return {**asdict(self), "protocol": protocol}

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model} on {self.data}, {self.regime}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return {"id": self.id, **asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> "Trial":
        """Reads what `to_json` gave.

        Raises:
            ExperimentError: a key is missing, unknown or of a wrong kind, or the content is not that of its id.
        """
        if not isinstance(content, Mapping):
            raise ExperimentError(f"trial: {content!r} is no object")
        values = {key: value for key, value in content.items() if key != "id"}
        trial = _read(cls, {**values, "settings": _read(Settings, values.get("settings"), "settings")}, "trial")
        protocol = _read(Protocol, values.get("protocol"), "protocol")
        trial = Trial(trial.model, trial.data, trial.regime, trial.seed, trial.settings, protocol)
        if content.get("id") != trial.id:
            raise ExperimentError(
                f"the content of trial {content.get('id')!r} ({trial.name}) belongs to the id {trial.id}: it was "
                "changed by hand, or by another version. Plan anew"
            )
        return trial


def canonical_json(content: Any) -> str:
    """One text for each content: sorted, without spaces, whole numbers without a point (2 and 2.0 are the same)."""
    return json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_T = TypeVar("_T")


def _read(kind: type[_T], values: Any, name: str) -> _T:
    """A dataclass from JSON, with tuples for its lists."""
    if not isinstance(values, Mapping):
        raise ExperimentError(f"{name}: {values!r} is no object")
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    missing = sorted(
        key
        for key, field in known.items()
        if key not in values and field.default is MISSING and field.default_factory is MISSING
    )
    if unknown or missing:
        raise ExperimentError(f"{name}: unknown keys {unknown}, missing keys {missing}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
