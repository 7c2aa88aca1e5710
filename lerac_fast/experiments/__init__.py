"""Experiments that reproduce the papers; needs the `experiments` extra."""
