"""The version of lerac_fast: as in pyproject.toml, which a test compares."""

__version__ = "0.1.0"
