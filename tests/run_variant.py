"""Runs pytest on the build in the current folder, not on the editable install. See the Makefile."""

import importlib.metadata
import os
import sys

sys.meta_path = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
sys.path.insert(0, os.getcwd())
os.environ["LERAC_FAST_TESTED_BUILD"] = os.getcwd()  # processes that tests start find the installed one

import lerac_fast  # noqa: E402

assert os.path.dirname(lerac_fast.__file__) == os.path.join(os.getcwd(), "lerac_fast"), lerac_fast.__file__
installed = {file.parts[0] for file in importlib.metadata.files("lerac_fast") or ()}
assert all(name.startswith("lerac_fast") for name in installed), f"the wheel holds more than lerac_fast: {installed}"

import pytest  # noqa: E402

sys.exit(pytest.main(sys.argv[1:]))
