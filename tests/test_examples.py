"""The examples run, are short, and do what they are there to show; those of other libraries in integrations."""

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    """What the `main` of an example returns and prints."""
    result = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    return result, capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert text.startswith('"""')
    if path.parent != EXAMPLES:
        assert f"examples/{path.parent.name}/{path.name}" in text, "how to start it"
        assert "Seen to run with torch " in text


def test_layer_wise_decay(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy, said = run("layer_wise_decay", capsys)
    assert accuracy > 0.9
    rates = [float(line.split()[-1]) for line in said.splitlines()[:3]]
    assert rates == pytest.approx([0.75**2 * 1e-3, 0.75 * 1e-3, 1e-3], rel=0.01)


def test_lerac(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy, said = run("lerac", capsys)
    assert accuracy > 0.9
    assert "epoch 1: rates at its start 5.0e-02, 7.1e-04, 1.0e-05;" in said
    assert "epoch 3: rates at its start 5.0e-02, 5.0e-02, 5.0e-02;" in said


def test_cbs(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy, said = run("cbs", capsys)
    assert accuracy > 0.9
    assert "smoothed: 0, 3; after epoch 5 it costs nothing" in said
    assert "epoch 2: sigma 0.700," in said
    assert "epoch 8: sigma 0.082," in said


def test_noisy_labels(capsys: pytest.CaptureFixture[str]) -> None:
    (accuracy, found), said = run("noisy_labels", capsys)
    assert accuracy > 0.9
    assert found > 0.85
    assert "have a wrong label" in said
