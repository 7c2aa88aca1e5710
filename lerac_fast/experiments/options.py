"""Checks that the commands' options have in common."""


def require_at_least(options: object, **lowest: int) -> None:
    """Checks attributes of `options` by their names.

    Raises:
        ValueError: one is lower than that; the message names it and its value.
    """
    for name, bound in lowest.items():
        value = getattr(options, name)
        if value < bound:
            raise ValueError(f"{name} must be at least {bound}, got {value}")
