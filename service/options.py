"""Settings as options of the command line."""

from __future__ import annotations

import argparse
from typing import Any

from service.settings import Settings


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """Offer every setting as an option."""
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default is None else f" (default {default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="VALUE", help=f"{field.description}{shown}", dest=name
        )


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options, by name; they take precedence over the environment."""
    return {name: getattr(arguments, name) for name in Settings.model_fields if getattr(arguments, name) is not None}
