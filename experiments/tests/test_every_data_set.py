"""Every data set trains: a trial on files of its format, from loading to the record."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.tests.data import (
    recordings,
    test_cifar,
    test_detection,
    test_food101,
    test_imagenet,
    test_kitti,
    test_text,
    test_tiny_imagenet,
    test_trec,
    test_utkface,
    test_webvision,
)
from experiments.tests.data.loading import write_zip
from experiments.tests.data.test_fashion_mnist import write_fashion_mnist
from experiments.tests.trials.helpers import planned, run
from lerac_experiments.data.fashion_mnist import DEBIAN_FOLDER
from lerac_experiments.data.registry import DATA
from lerac_experiments.models import MODELS
from lerac_experiments.settings import Protocol
from lerac_experiments.training.preparation import request_for
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial


def _qnli() -> dict[str, bytes]:
    columns = "question\tsentence"
    return {f"QNLI/{name}.tsv": test_text.tsv(columns, range(n)) for name, n in (("train", 20), ("dev", 6))}


def _boolq() -> dict[str, bytes]:
    return {f"BoolQ/{name}.jsonl": test_text.jsonl(range(n), "label") for name, n in (("train", 20), ("val", 6))}


def _fashion_mnist(folder: Path) -> None:
    if not DEBIAN_FOLDER.is_dir():  # what torchvision would download
        write_fashion_mnist(folder / "FashionMNIST" / "raw")


WRITE: dict[str, Callable[[Path], object]] = {
    "cifar10": test_cifar.write_cifar10,
    "cifar100": test_cifar.write_cifar100,
    "cifar10-subset": lambda folder: np.savez(folder / "cifar10-subset.npz", **test_cifar.subset()),
    "tiny-imagenet": lambda folder: test_tiny_imagenet.write_tiny_imagenet(folder / "tiny-imagenet-200"),
    "imagenet": lambda folder: test_imagenet.write_imagenet(folder / "imagenet"),
    "imagenet200": lambda folder: test_imagenet.write_imagenet(folder / "imagenet"),
    "webvision": lambda folder: test_webvision.write_webvision(folder / "webvision"),
    "food101": lambda folder: test_food101.write_food101(folder / "food-101"),
    "utkface": lambda folder: test_utkface.write_utkface(folder / "UTKFace"),
    "fashion-mnist": _fashion_mnist,
    "digits": lambda _: None,
    "voc": test_detection.write_2007,
    "bccd": test_detection.write_bccd,
    "kitti": lambda folder: test_kitti.write_kitti(folder / "kitti"),
    "boolq": lambda folder: write_zip(folder / "BoolQ.zip", _boolq()),
    "qnli": lambda folder: write_zip(folder / "QNLI.zip", _qnli()),
    "rte": lambda folder: write_zip(folder / "RTE.zip", test_text.rte()),
    "trec": lambda folder: write_zip(folder / "TREC.zip", test_trec.trec()),
    "esc50": lambda folder: write_zip(folder / "ESC-50-master.zip", recordings.esc50()),
    "crema-d": lambda folder: write_zip(folder / "CREMA-D.zip", recordings.crema_d()),
    "spoken-digits": lambda folder: write_zip(folder / "fsdd.zip", recordings.digits()),
}

MODEL = {"image": "resnet-small", "text": "bert-small", "audio": "densenet-small", "detection": "ssd-small"}


def test_no_data_set_is_left_out() -> None:
    assert WRITE.keys() == DATA.keys()


@pytest.mark.parametrize("name", DATA)
def test_it_trains(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("LERAC_FAST_DATA", str(data))
    WRITE[name](data)
    kind = DATA[name].kind
    spec = MODELS[MODEL[kind]]
    settings = replace(spec.settings, epochs=2, batch_size=3, lerac_epochs=1, cbs_every=0.5)
    drawn = None if name in ("imagenet200", "crema-d") else 16
    side = 32 if name in ("imagenet", "imagenet200", "webvision", "food101", "utkface") else None
    protocol = Protocol(train_examples=drawn, test_examples=6, image_size=side)
    trials = [Trial(spec.name, name, "cbs+lerac", 0, settings, protocol)]
    if kind == "detection":
        trials.append(replace(trials[0], regime="dp-instance"))
    parts = DATA[name].load(request_for(trials[0], spec, None))
    assert (parts.task == "regression") == DATA[name].regression, "what plans go by"
    assert (parts.mix is not None) == DATA[name].mixes, "what plans go by"
    folder = planned(tmp_path / "runs", *trials)
    assert run(folder) == 0
    for trial in trials:
        record = TrialFolder(folder, trial).record()
        assert record is not None
        assert record["status"] == "done", record
        assert len(record["epochs"]) == 2
        assert ("Car hard, 40 points" in record["result"].get("details", {})) == (name == "kitti")
        assert record["result"]["metric"] == {
            "detection": "mean average precision",
            "image": "mean absolute error" if name == "utkface" else "accuracy",
        }.get(kind, "accuracy")
