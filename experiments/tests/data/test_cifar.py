"""CIFAR, from files as Python 2 pickled them."""

import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.tests.data.image_parts import cut, load_all
from experiments.tests.data.loading import peak_below
from lerac_experiments.data import cifar
from lerac_experiments.data.cifar import CIFAR10, CIFAR10_SUBSET, CIFAR100
from lerac_experiments.data.source import DataSet, Request
from lerac_experiments.errors import ExperimentError, Unavailable

TRAIN_BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the strings that they were in Python 2."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_string(self, value: bytes) -> None:
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[bytes] = save_string


class Bytes:
    """An array as NumPy pickled it then: by a module that has moved, and with numbers for truth values."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        state = (1, self.array.shape, ByteType(), False, self.array.tobytes())
        return np.empty(0).__reduce__()[0], (np.ndarray, (0,), b"b"), state


class ByteType:
    def __reduce__(self) -> Any:
        return np.dtype, (b"u1", 0, 1), (3, b"|", None, None, None, -1, -1, 0)


def python2_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_batch(path: Path, labels: list[int], key: bytes, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), np.uint8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(
        python2_pickle({b"batch_label": b"a batch", b"data": Bytes(pixels), key: labels, b"filenames": []})
    )


def write_cifar10(folder: Path) -> Path:
    """Five batches of 20 images, and ten to test with."""
    for seed, name in enumerate([*TRAIN_BATCHES, "test_batch"]):
        labels = [*range(10)] * (1 if name == "test_batch" else 2)
        write_batch(folder / "cifar-10-batches-py" / name, labels, b"labels", seed)
    return folder / "cifar-10-batches-py"


def test_cifar10(folder: Path) -> None:
    batches = write_cifar10(folder)
    parts = CIFAR10.load(Request())
    assert (parts.task, parts.classes, parts.source) == ("classification", 10, str(batches))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (90, 10, 10)
    assert parts.note == "100 training and 10 test examples, where 50,000 and 10,000 were published"
    loaded = load_all(parts)
    first = loaded["test"][0]
    assert isinstance(first.inputs, torch.Tensor)
    assert isinstance(first.targets, torch.Tensor)
    assert first.inputs.shape == (4, 3, 32, 32)
    assert first.targets.tolist() == [0, 1, 2, 3]
    # The bytes are the red, the green and the blue pixels, row by row.
    pixels = np.random.default_rng(5).integers(0, 256, (10, 3072), np.uint8)[0].reshape(3, 32, 32)
    expected = torch.from_numpy(pixels.copy()).float()
    scaled = first.inputs[0]
    for channel in range(3):
        ratio = torch.corrcoef(torch.stack([scaled[channel].flatten(), expected[channel].flatten()]))[0, 1]
        assert ratio.item() == pytest.approx(1)


def test_cifar10_from_its_archive(folder: Path) -> None:
    batches = write_cifar10(folder)
    expected = CIFAR10.load(Request())
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(batches, "cifar-10-batches-py")
    batches.rename(folder / "elsewhere")
    parts = CIFAR10.load(Request())
    assert torch.equal(parts.train.inputs, expected.train.inputs)
    assert "cifar-10-python.tar.gz" in parts.source
    assert not batches.exists()


def write_cifar100(folder: Path) -> None:
    """Two images of each class to train with, and one to test with."""
    for name, count in (("train", 200), ("test", 100)):
        write_batch(folder / "cifar-100-python" / name, [number % 100 for number in range(count)], b"fine_labels")
    names = [f"class {number}".encode() for number in range(100)]
    (folder / "cifar-100-python" / "meta").write_bytes(python2_pickle({b"fine_label_names": names}))


def test_cifar100_names_its_classes(folder: Path) -> None:
    write_cifar100(folder)
    assert CIFAR100.load(Request()).class_names == tuple(f"class {number}" for number in range(100))
    meta = folder / "cifar-100-python" / "meta"
    meta.write_bytes(python2_pickle({b"fine_label_names": [b"apple"]}))
    with pytest.raises(ExperimentError, match=r"meta is damaged: it does not name 100 classes"):
        CIFAR100.load(Request())
    meta.unlink()
    assert CIFAR100.load(Request()).class_names == ()


def test_cifar100(folder: Path) -> None:
    write_cifar100(folder)
    parts = CIFAR100.load(Request())
    assert (parts.classes, len(parts.train), len(parts.validation), len(parts.test)) == (100, 180, 20, 100)
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [*range(100)]
    load_all(parts)


def test_no_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.retrieve", no_network)
    with pytest.raises(Unavailable, match=rf"no cifar-10-python\.tar\.gz in {folder}.*toronto.*no route to host"):
        CIFAR10.load(Request())


class Command:
    """Would run a command as it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch harm",)


GOOD = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({**GOOD, b"more": Command()}, 3), r"damaged, or no batch of CIFAR: it asks for posix\.system"),
        (pickle.dumps(GOOD, 3)[:-100], "damaged, or no batch of CIFAR"),
        (b"no pickle", "damaged, or no batch of CIFAR"),
        (b"", "damaged, or no batch of CIFAR"),
        (pickle.dumps([1], 3), "lacks 'data' or 'labels'"),
        (pickle.dumps({b"data": GOOD[b"data"]}, 3), "lacks 'data' or 'labels'"),
        (pickle.dumps({**GOOD, b"data": np.zeros((2, 3071), np.uint8)}, 3), "not images of 3 x 32 x 32 bytes"),
        (pickle.dumps({**GOOD, b"data": np.zeros((2, 3072))}, 3), "not images of 3 x 32 x 32 bytes"),
        (pickle.dumps({**GOOD, b"labels": [0]}, 3), "does not hold one label for each of its 2 images"),
        (pickle.dumps({**GOOD, b"labels": [0.5, 1]}, 3), "does not hold one label for each of its 2 images"),
        (pickle.dumps({**GOOD, b"labels": [0, 10]}, 3), "labels are not all between 0 and 9"),
        (None, "cannot read"),
    ],
    ids=[
        *["command", "cut", "no pickle", "empty", "list", "no labels", "small", "floats", "few labels", "halves"],
        *["class 10", "missing"],
    ],
)
def test_damaged_batches_are_named(folder: Path, content: bytes | None, message: str) -> None:
    batches = write_cifar10(folder)
    file = batches / "data_batch_3"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ExperimentError, match=message) as caught:
        CIFAR10.load(Request())
    assert str(file) in str(caught.value)
    assert not Path("harm").exists()


class Raw:
    """A call, as a pickle states it."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


RECONSTRUCT = np.empty(0).__reduce__()[0]
POINTER = Raw(np.ndarray, (1,), np.dtype("O"), b"A" * 8)
"""An object at the address 0x4141414141414141."""


def array(kind: Any, shape: Any, content: Any) -> Raw:
    """An array as NumPy pickles it."""
    return Raw(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, shape, kind, False, content))


BYTES = np.dtype("u1")
FIELDS = Raw(np.dtype, "u1", False, True, state=(3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 63))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"labels": [POINTER, POINTER]}, "one label for each of its 2 images"),
        ({b"labels": [POINTER, 0]}, "one label for each of its 2 images"),
        ({b"labels": POINTER}, "one label for each of its 2 images"),
        ({b"labels": [True, False]}, "one label for each of its 2 images"),
        ({b"labels": [[0], [1]]}, "one label for each of its 2 images"),
        ({b"labels": (0, 1)}, "one label for each of its 2 images"),
        ({b"labels": np.zeros(2, np.uint8)}, "one label for each of its 2 images"),
        ({b"labels": [0, np.int64(1)]}, "it asks for numpy.*scalar"),
        ({b"labels": [0, 1 << 80]}, "labels are not all between 0 and 9"),
        ({b"data": Raw(np.ndarray, (2, 3072), BYTES, b"A" * 8)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": POINTER}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": np.array([[None]], object)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": np.zeros(2, [("a", "u1", 3072)])}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array(np.dtype("O"), (2, 3072), b"A" * 8 * 2 * 3072)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array(FIELDS, (2, 3072), b"A" * 2 * 3072)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array(BYTES, (2, 3072), b"A" * 3072)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array(BYTES, (-2, -3072), b"A" * 2 * 3072)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array(BYTES, (2, 3072), [POINTER] * 2)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": array("u1", (2, 3072), b"A" * 2 * 3072)}, "not images of 3 x 32 x 32 bytes"),
        ({b"data": Raw(RECONSTRUCT, np.ndarray, (2, 3072), "O")}, "not images of 3 x 32 x 32 bytes"),
        ({b"more": Raw(RECONSTRUCT, bytearray, (1 << 60,), "O")}, "it asks for builtins.bytearray"),
    ],
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_hostile_batches_are_refused(folder: Path, change: dict[bytes, Any], message: str, protocol: int) -> None:
    """None of what a file says of types reaches NumPy: not an address, not an object."""
    file = write_cifar10(folder) / "data_batch_3"
    file.write_bytes(pickle.dumps({**GOOD, **change}, protocol))
    with pytest.raises(ExperimentError, match=message) as caught:
        CIFAR10.load(Request())
    assert str(file) in str(caught.value)


def test_an_index_in_a_pickle_claims_no_memory(folder: Path) -> None:
    file = write_cifar10(folder) / "data_batch_1"
    file.write_bytes(b"\x80\x02}r" + struct.pack("<I", 1 << 23) + b".")
    with peak_below(10_000_000), pytest.raises(ExperimentError, match="lacks 'data'"):
        CIFAR10.load(Request())


def subset() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    arrays: dict[str, np.ndarray[Any, Any]] = {"class_names": np.array(["airplane"])}
    for part, count in (("train", 50), ("test", 20)):
        arrays[f"{part}_images"] = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 10).astype(np.uint8)
    return arrays


def test_subset(folder: Path) -> None:
    arrays = subset()
    np.savez(folder / "cifar10-subset.npz", **arrays)
    parts = CIFAR10_SUBSET.load(Request())
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (45, 5, 20)
    assert "not comparable with published figures" in str(parts.note)
    image = load_all(parts)["test"][0].inputs[0]
    assert image.shape == (3, 32, 32)
    green = torch.from_numpy(arrays["test_images"][0, :, :, 1].copy()).float()
    assert torch.corrcoef(torch.stack([image[1].flatten(), green.flatten()]))[0, 1].item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": np.zeros((50, 3, 32, 32), np.uint8)}, r"train_images is uint8 \(50, 3, 32, 32\)"),
        ({"test_images": np.zeros((20, 32, 32, 3))}, "test_images is float64"),
        ({"test_labels": np.zeros(19, np.uint8)}, "one label for each of its 20 images"),
        ({"train_labels": np.full(50, 10, np.uint8)}, "between 0 and 9"),
        ({"train_images": np.array([Path()] * 50, object)}, "cannot read"),
        ({"train_images": np.zeros(50, [("a", "u1", (32, 32, 3))])}, "cannot read .*train_images: it holds .*'a'"),
        ({"train_labels": np.array(["0"] * 50)}, "cannot read .*train_labels: it holds <U1, and not numbers"),
        ({"train_labels": np.zeros(50)}, "one label for each of its 50 images"),
        ({"train_labels": np.zeros((50, 1), np.uint8)}, "one label for each of its 50 images"),
    ],
    ids=["channels first", "floats", "few labels", "class 10", "objects", "fields", "texts", "halves", "columns"],
)
def test_damaged_subset_is_named(folder: Path, change: dict[str, Any], message: str) -> None:
    np.savez(folder / "cifar10-subset.npz", **{**subset(), **change})
    with pytest.raises(ExperimentError, match=message) as caught:
        CIFAR10_SUBSET.load(Request())
    assert str(folder / "cifar10-subset.npz") in str(caught.value)


def npy(shape: object, kind: str = "|u1", content: bytes = b"") -> bytes:
    """A file of NumPy whose header claims what it likes."""
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "train_images.npy",
            npy((1 << 40, 32, 32, 3)),
            r"announces \(1099511627776, .* of uint8, and 0 bytes follow",
        ),
        ("train_images.npy", npy((-1, -32, 32, 3), content=bytes(3072)), "its header announces"),
        ("train_images.npy", npy((-1, -1, 32, 3), content=bytes(96)), "its header announces"),
        ("train_images.npy", npy((1,), "|O", bytes(8)), "it holds object, and not numbers"),
        ("train_images.npy", npy("(1,)"), "cannot read"),
        ("train_images.npy", b"\x93NUMPY\x09\x00", "cannot read"),
        ("train_images.npy", b"", "cannot read"),
        ("train_images", b"no array", "it is not in the archive"),
    ],
    ids=["claims", "negative", "both negative", "objects", "shape", "version", "empty", "no array"],
)
def test_a_hostile_subset_is_named(folder: Path, name: str, content: bytes, message: str) -> None:
    arrays = subset()
    del arrays["train_images"]
    np.savez(folder / "cifar10-subset.npz", **arrays)
    with zipfile.ZipFile(folder / "cifar10-subset.npz", "a") as archive:
        archive.writestr(name, content)
    with peak_below(10_000_000), pytest.raises(ExperimentError, match=message) as caught:
        CIFAR10_SUBSET.load(Request())
    assert str(folder / "cifar10-subset.npz" / "train_images") in str(caught.value)


def test_a_subset_that_expands_to_more_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "_LIMIT", 100_000)
    np.savez_compressed(folder / "cifar10-subset.npz", **subset())
    with pytest.raises(ExperimentError, match=r"train_images is refused: it holds 153,728 bytes, and at most 100,000"):
        CIFAR10_SUBSET.load(Request())


def test_subset_cut_or_missing(folder: Path) -> None:
    with pytest.raises(Unavailable, match=rf"no cifar10-subset\.npz in {folder}"):
        CIFAR10_SUBSET.load(Request())
    np.savez(folder / "cifar10-subset.npz", **subset())
    cut(folder / "cifar10-subset.npz")
    with pytest.raises(ExperimentError, match=r"cannot read .*cifar10-subset\.npz"):
        CIFAR10_SUBSET.load(Request())
    np.savez(folder / "cifar10-subset.npz", train_images=subset()["train_images"])
    with pytest.raises(ExperimentError, match=r"cannot read .*cifar10-subset\.npz.*train_labels"):
        CIFAR10_SUBSET.load(Request())


@pytest.mark.parametrize(
    ("data_set", "md5"),
    [(CIFAR10, "c58f30108f718f92721af3b95e74349a"), (CIFAR100, "eb9058c3a382ffc7106e4002c42a8d85")],
)
def test_the_published_files_are_asked_for(data_set: DataSet, md5: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is downloaded where there is nothing, with the checksums that torchvision knows."""
    asked = []

    def download(url: str, checksum: str) -> None:
        asked.append(checksum)
        raise ExperimentError(f"no {url} here")

    monkeypatch.setattr(cifar, "find", lambda _: None)
    monkeypatch.setattr(cifar, "find_or_download", download)
    with pytest.raises(ExperimentError, match=r"no .*\.tar\.gz here"):
        data_set.load(Request())
    assert asked == [md5]
