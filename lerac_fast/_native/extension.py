"""Loads the compiled module `lerac_fast._C`, or raises an ImportError that says how to mend it."""

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

REBUILD = "python -m pip install --no-build-isolation --no-deps --force-reinstall lerac_fast"
"""The command that compiles lerac_fast against the installed torch (from a checkout, `.` in place of the name)."""

_SOURCES = Path(__file__).resolve().parents[2] / "csrc"
_INTERFACE = ("bindings.cpp", "schemas.cpp", "engine/rules.h")
"""The sources that say what the module offers to Python; CMake keeps their digests."""


def _release(version: str) -> str:
    """The version without its local part: `2.14.1+cu130` and `2.14.1+cpu` share one C++ interface."""
    return version.split("+")[0]


def load() -> ModuleType:
    """Imports the compiled module.

    Raises:
        ImportError: it was not built, or was built against another torch or, in a checkout, of other sources. The
            message says which, and the command that mends it.
    """
    try:
        build = import_module("lerac_fast._built_with")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"lerac_fast's compiled module is missing. Build it against the installed torch {torch.__version__}: "
            f"{REBUILD}"
        ) from error
    built_with = build.torch_version
    if _release(built_with) != _release(torch.__version__):
        raise ImportError(
            f"lerac_fast was compiled against torch {built_with}, but torch {torch.__version__} is installed. "
            f"Compile it anew: {REBUILD}"
        )
    if _SOURCES.is_dir() and getattr(build, "interface", None) != _interface():
        raise ImportError(
            f"lerac_fast was compiled of other sources than those in {_SOURCES}. Compile it anew: {REBUILD}"
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


def _interface() -> str:
    return " ".join(sha256((_SOURCES / name).read_bytes()).hexdigest() for name in _INTERFACE)


extension = load()
