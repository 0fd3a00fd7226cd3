"""Refuse numbers out of their range, by the name of the setting. Does not import torch."""

from longtail.errors import ConfigError


def positive(name: str, value: float | None) -> None:
    """Refuse numbers <= 0.

    Raises:
        ConfigError: ``value`` is given and not positive.
    """
    if value is not None and not value > 0:
        raise ConfigError(f"{name} is {value}", fix="give a number > 0")


def not_negative(name: str, value: float | None) -> None:
    """Refuse numbers < 0.

    Raises:
        ConfigError: ``value`` is given and negative.
    """
    if value is not None and not value >= 0:
        raise ConfigError(f"{name} is {value}", fix="give a number >= 0")


def within(name: str, value: float | None, low: float, high: float) -> None:
    """Refuse numbers outside [low, high].

    Raises:
        ConfigError: ``value`` is given and outside.
    """
    if value is not None and not low <= value <= high:
        raise ConfigError(f"{name} is {value}", fix=f"give a number from {low} to {high}")
