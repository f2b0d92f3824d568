"""A number with its noun, as people write it."""


def count(number: int, noun: str) -> str:
    """Return ``1 problem`` or ``n problems``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
