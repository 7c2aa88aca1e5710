"""Which files of a folder or an archive are read, what is said of the others, and how images and sounds are decoded."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from PIL import Image

from experiments.tests.data.loading import peak_below, write_folder, write_zip
from lerac_experiments.data.media import (
    IMAGES,
    SOUNDS,
    Listing,
    decode_image,
    decode_sound,
    left_out_note,
    list_folder,
    list_media,
    read_each,
)
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
MIXED = {
    "a.jpg": b"",
    "B.JPEG": b"",
    "nested/deep/c.WebP": b"",
    "d.bmp": b"",
    "e.tif": b"",
    "f.TIFF": b"",
    "g.gif": b"",
    "h.png": b"",
    "i.WAV": b"",
    "j.flac": b"",
    "nested/k.Ogg": b"",
    "Thumbs.db": b"",
    "README": b"",
    "._a.jpg": b"",
    ".DS_Store": b"",
    ".ipynb_checkpoints/a-checkpoint.jpg": b"",
    ".ipynb_checkpoints/h-checkpoint.png": b"",
    "nested/.cache/l.wav": b"",
    "__MACOSX/a.jpg": b"",
}
HIDDEN = {"._a.jpg", ".DS_Store", ".ipynb_checkpoints", "nested/.cache", "__MACOSX"}


def of_folder(path: Path) -> Listing:
    write_folder(path / "set", MIXED)
    return list_folder(path / "set")


def of_archive(path: Path) -> Listing:
    write_zip(path / "set.zip", {"nested/": b"", **MIXED})
    return Stored(path / "set.zip").listing


@pytest.mark.parametrize("listing_of", [of_folder, of_archive])
def test_every_file_is_read_or_counted(tmp_path: Path, listing_of: Callable[[Path], Listing]) -> None:
    listing = listing_of(tmp_path)
    assert {name for name, reason in listing.left_out.items() if reason.startswith("hidden")} == HIDDEN
    images, sounds = listing.only(IMAGES), listing.only(SOUNDS)
    assert images.names == ["B.JPEG", "a.jpg", "d.bmp", "e.tif", "f.TIFF", "g.gif", "h.png", "nested/deep/c.WebP"]
    assert sounds.names == ["i.WAV", "j.flac", "nested/k.Ogg"]
    for kept in (images, sounds):
        assert not set(kept.names) & set(kept.left_out)
        assert {*kept.names, *kept.left_out} == {*listing.names, *HIDDEN}
    assert (
        left_out_note(images)
        == "left out: hidden files or folders (5), .db (1), .flac (1), .ogg (1), .wav (1), others (1)"
    )
    assert listing.under("nested") == Listing(
        ["nested/deep/c.WebP", "nested/k.Ogg"], {"nested/.cache": "hidden files or folders"}
    )


def test_nothing_is_noted_where_nothing_is_left_out(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.jpg": b"", "b/c.png": b""})
    assert left_out_note(list_media(tmp_path, IMAGES)) is None


def test_a_folder_without_any_says_what_there_is(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.mp4": b"", "b.mp4": b"", ".c.jpg": b""})
    with pytest.raises(ExperimentError, match=rf"no images in {tmp_path}; left out: \.mp4 \(2\), hidden .* \(1\)$"):
        list_media(tmp_path, IMAGES)


def test_links(tmp_path: Path) -> None:
    """Files may be kept elsewhere; folders that are linked may hold themselves."""
    write_folder(tmp_path, {"elsewhere/a.jpg": b"a", "set/b/b.jpg": b"b"})
    (tmp_path / "set" / "a.jpg").symlink_to(tmp_path / "elsewhere" / "a.jpg")
    (tmp_path / "set" / "b" / "again").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "broken.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "set" / "pipe.jpg")
    listing = list_media(tmp_path / "set", IMAGES)
    assert listing.names == ["a.jpg", "b/b.jpg"]
    assert left_out_note(listing) == "left out: broken links or no files (2), links to folders (1)"
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    assert list_media(tmp_path / "linked", IMAGES) == listing


@pytest.mark.parametrize("name", ["image.png", "list.txt", "data.zip"])
def test_pointers_of_git_lfs_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(POINTER)
    write_zip(tmp_path / "set.zip", {name: POINTER})
    reads: list[tuple[str, Callable[[], object]]] = [
        (str(path), lambda: Stored(tmp_path).read(name)),
        (str(path), lambda: Stored(tmp_path, {name: POINTER}).lines(name)),
        (str(path), lambda: Stored(tmp_path).text(name)),
        (str(path), lambda: Stored(path)),
        (str(tmp_path / "set.zip" / name), lambda: Stored(tmp_path / "set.zip").read(name)),
    ]
    for where, read in reads:
        with pytest.raises(ExperimentError, match=rf"{where} is a pointer of Git LFS, .* run `git lfs pull`"):
            read()


def ramp() -> NDArray[np.uint16]:
    """All 8-bit shades in 16 bits, [16, 16]."""
    return (np.arange(256).reshape(16, 16) * 257).astype(np.uint16)


@pytest.mark.parametrize("kind", ["png", "tiff", "big-endian tiff"])
def test_16_bits_do_not_turn_white(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(ramp()).save(file, "PNG")
    elif kind == "tiff":
        Image.fromarray(ramp()).save(file, "TIFF")
    else:
        Image.frombytes("I;16B", (16, 16), ramp().astype(">u2").tobytes()).save(file, "TIFF")
    image = decode_image(file.getvalue(), tmp_path)
    assert image.mode == "RGB"
    for channel in range(3):
        assert np.array_equal(np.asarray(image)[:, :, channel].ravel(), np.arange(256))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_an_unknown_range_are_refused(tmp_path: Path, mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (4, 4), 7).save(file, "TIFF")
    with pytest.raises(ExperimentError, match=rf"{tmp_path}/a\.tif .* 32 bits \(mode {mode}\), whose range is not"):
        decode_image(file.getvalue(), tmp_path / "a.tif")


MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA"],
    "JPEG": ["L", "RGB", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"],
    "GIF": ["L", "P"],
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_kind_of_image_is_read_in_rgb(tmp_path: Path, form: str, mode: str) -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, form)
    image = np.asarray(decode_image(file.getvalue(), tmp_path)).astype(int)
    assert image.shape == (40, 40, 3)
    assert abs(image[:, 2:18]).max() < 12
    assert abs(image[:, 22:38] - 255).max() < 12


def test_palettes_with_transparency_are_read_without_a_warning(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("P", (4, 4)).save(file, "PNG", transparency=bytes(range(200)))
    assert decode_image(file.getvalue(), tmp_path).mode == "RGB"


@pytest.mark.parametrize("form", MODES)
def test_images_cut_off_are_named(tmp_path: Path, form: str) -> None:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(file, form, **({"compression": "tiff_deflate"} if form == "TIFF" else {}))
    for keep in (0.0, 0.1, 0.5, 0.9):
        with pytest.raises(ExperimentError, match=rf"{tmp_path}/a is damaged, or no image"):
            decode_image(file.getvalue()[: int(keep * len(file.getvalue()))], tmp_path / "a")


def sound(form: str, samples: int = 8000) -> bytes:
    waveform = 0.3 * np.sin(np.arange(samples) / 10) + 0.05 * np.random.default_rng(0).standard_normal(samples)
    file = io.BytesIO()
    soundfile.write(file, waveform, 8000, format=form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
def test_sounds(tmp_path: Path, form: str) -> None:
    content = sound(form)
    whole, rate = decode_sound(content, tmp_path, 10_000)
    assert (whole.shape, whole.dtype, rate) == ((8000, 1), torch.float32, 8000)
    start, _ = decode_sound(content, tmp_path, 3000)
    assert torch.equal(start, whole[:3000])
    expected = 0.3 * torch.sin(torch.arange(8000) / 10)
    assert (whole[:, 0] - expected).std() < 0.1


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("samples", [1000, 10_000])
def test_sounds_cut_off_are_named(tmp_path: Path, form: str, samples: int) -> None:
    """libsndfile takes some of them to end where they were cut; also behind the samples that are wanted."""
    content = sound(form)
    for keep in (0.0, 0.1, 0.5, 0.9, 0.99):
        with pytest.raises(ExperimentError, match=rf"{tmp_path}/a is cut off|cannot read {tmp_path}/a"):
            decode_sound(content[: int(keep * len(content))], tmp_path / "a", samples)


def test_a_sound_claims_no_memory(tmp_path: Path) -> None:
    """Its header says how long it is: here 2 ** 36 - 1 samples."""
    content = bytearray(sound("FLAC"))
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    with peak_below(1_000_000), pytest.raises(ExperimentError, match=f"cannot read {tmp_path}"):
        decode_sound(bytes(content), tmp_path, 1000)


def test_all_that_cannot_be_read_are_counted() -> None:
    def read(name: str) -> torch.Tensor:
        if name.startswith("bad"):
            raise ExperimentError(f"{name} is damaged")
        return torch.zeros(1)

    assert len(read_each(read, ["a", "b"])) == 2
    with pytest.raises(ExperimentError, match=r"^bad is damaged$"):
        read_each(read, ["a", "bad", "c"])
    with pytest.raises(ExperimentError, match=r"^bad 1 is damaged; of 4 files 2 cannot be read$"):
        read_each(read, ["a", "bad 1", "c", "bad 2"])
