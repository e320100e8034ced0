"""Settings as options of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.configuration import CONFIG_VARIABLE, Configuration, read_configuration
from service.settings import Settings


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """Offer every setting as an option, and the file that may hold them."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"TOML file with settings (default: what {CONFIG_VARIABLE} names)"
    )
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default is None else f" (default {default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}", metavar="VALUE", help=f"{field.description}{shown}", dest=name
        )


def chosen_configuration(arguments: argparse.Namespace) -> Configuration:
    """Return the configuration that the options, the environment and the file make."""
    given = {name: getattr(arguments, name) for name in Settings.model_fields if getattr(arguments, name) is not None}
    return read_configuration(given, arguments.config)
