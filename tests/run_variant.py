"""Runs pytest on the build in the current folder, not on the editable install. See the Makefile."""

import os
import sys

sys.meta_path = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable")]
sys.path.insert(0, os.getcwd())

import lerac_fast  # noqa: E402

assert os.path.dirname(lerac_fast.__file__) == os.path.join(os.getcwd(), "lerac_fast"), lerac_fast.__file__
installed = {name for name in os.listdir() if not name.endswith((".dist-info", "__pycache__", "_cache", ".hypothesis"))}
assert installed == {"lerac_fast", "tests", "tools", "benchmarks", "pyproject.toml"}, "the wheel holds lerac_fast alone"

import pytest  # noqa: E402

sys.exit(pytest.main(sys.argv[1:]))
