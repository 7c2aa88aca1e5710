"""What a trial is, and the name that its content gives it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, TypeVar

from lerac_experiments.errors import ExperimentError
from lerac_experiments.settings import USUAL, Protocol, Settings


@dataclass(frozen=True)
class Trial:
    """One training, complete: what is equal here is the same experiment."""

    model: str
    data: str
    regime: str
    seed: int
    settings: Settings
    protocol: Protocol = USUAL
    model_source: str | None = None
    """The fingerprint of a model of one's own: an edited one is another trial."""
    data_content: str | None = None
    """The fingerprint of data of one's own."""
    similarity_content: str | None = None
    """The fingerprint of the file that the protocol names as `class_similarity`."""
    grid: tuple[str, ...] = ()
    """The settings that a report chooses among, by the validation part. It does not decide what the training is."""

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits that its content decides."""
        return hashlib.sha256(canonical_json(self._content()).encode()).hexdigest()[:12]

    def _content(self) -> dict[str, Any]:
        """What decides. Values of the protocol that are the usual ones are left out, so that a later version can add
        some without giving other ids to the same trials."""
        usual = asdict(USUAL)
        protocol = {name: value for name, value in asdict(self.protocol).items() if value != usual[name]}
        return {**replace(self, grid=())._filled(), "protocol": protocol}

    def _filled(self) -> dict[str, Any]:
        """All of it, but for fingerprints that there are none of and a grid that there is not."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.model} on {self.data}, {self.regime}, seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        return {"id": self.id, **self._filled()}

    @classmethod
    def from_json(cls, content: Any) -> "Trial":
        """Reads what `to_json` gave.

        Raises:
            ExperimentError: a key is missing, unknown or of a wrong kind, or the content is not that of its id.
        """
        if not isinstance(content, Mapping):
            raise ExperimentError(f"trial: {content!r} is no object")
        values = {key: value for key, value in content.items() if key != "id"}
        values["settings"] = _read(Settings, values.get("settings"), "settings")
        values["protocol"] = _read(Protocol, values.get("protocol"), "protocol")
        trial = _read(cls, values, "trial")
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
