"""Data sets from the Hugging Face Hub."""

from contextlib import suppress
from typing import Any

from lerac_experiments.data.source import cache_folder
from lerac_experiments.errors import Unavailable

_TIMEOUT = 10.0  # seconds without an answer


def load_from_hub(repository: str, configuration: str | None, advice: str) -> dict[str, dict[str, list[Any]]]:
    """Downloads a data set, or reads what was downloaded before: its splits, and the columns of each.

    Args:
        advice: what the user may do instead.

    Raises:
        Unavailable: the package `datasets` is not installed, or the Hub cannot be reached.
    """
    try:
        import datasets  # Takes long to import.
        from huggingface_hub import HfApi
        from huggingface_hub.errors import OfflineModeIsEnabled
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed, which would download {repository}; {advice}") from error
    try:
        with suppress(OfflineModeIsEnabled):  # it may have been downloaded before
            # Without an answer, load_dataset would try again and again for half a minute.
            HfApi().dataset_info(repository, timeout=_TIMEOUT)
        splits = datasets.load_dataset(repository, configuration, cache_dir=str(cache_folder() / "huggingface"))
    except Exception as error:  # also of the HTTP library that it uses, which has changed between versions
        raise Unavailable(
            f"the download of {repository} from the Hugging Face Hub failed ({error}); {advice}"
        ) from error
    return {name: {column: list(split[column]) for column in split.column_names} for name, split in splits.items()}
