"""Loads the compiled module `lerac_fast._C`, or raises an ImportError that says how to mend it."""

from importlib import import_module
from types import ModuleType

import torch

REBUILD = "python -m pip install --no-build-isolation --no-deps --force-reinstall lerac_fast"
"""The command that compiles lerac_fast against the installed torch (from a checkout, `.` in place of the name)."""


def _release(version: str) -> str:
    """The version without its local part: `2.14.1+cu130` and `2.14.1+cpu` share one C++ interface."""
    return version.split("+")[0]


def load() -> ModuleType:
    """Imports the compiled module.

    Raises:
        ImportError: it was not built, or was built against another torch. The message names both torch versions and
            the command that mends it.
    """
    try:
        built_with = import_module("lerac_fast._built_with").torch_version
    except ModuleNotFoundError as error:
        raise ImportError(
            f"lerac_fast's compiled module is missing. Build it against the installed torch {torch.__version__}: "
            f"{REBUILD}"
        ) from error
    if _release(built_with) != _release(torch.__version__):
        raise ImportError(
            f"lerac_fast was compiled against torch {built_with}, but torch {torch.__version__} is installed. "
            f"Compile it anew: {REBUILD}"
        )
    try:
        return import_module("lerac_fast._C")
    except ImportError as error:
        if "LERAC_FAST_CPU_CAPABILITY" in str(error):  # it loads; the variable is wrong
            raise
        raise ImportError(
            f"lerac_fast's module, compiled against torch {built_with}, does not load with the installed torch "
            f"{torch.__version__}: {error}. Compile it anew: {REBUILD}"
        ) from error


extension = load()
