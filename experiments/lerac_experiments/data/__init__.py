"""The data of the experiments."""
