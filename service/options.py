"""Settings as options of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from service.configuration import CONFIG_VARIABLE, Configuration, read_configuration
from service.settings import Settings

# Titles of the help, each with the first of its settings.
_GROUPS = {
    "host": "server and models",
    "log_format": "log",
    "api_keys": "keys and sites",
    "max_body_bytes": "uploads, time and connections",
    "decode_workers": "decoding",
    "max_batch_size": "batches and runtimes",
}
# Where the type says too little.
_METAVARS = {"host": "HOST", "default_model": "NAME[/VERSION]", "versions": "{latest,all,JSON}"}


def add_setting_options(parser: argparse.ArgumentParser) -> None:
    """Offer every setting as an option, and the file that may hold them."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"TOML file with settings (default: what {CONFIG_VARIABLE} names)"
    )
    for name, field in Settings.model_fields.items():
        if name in _GROUPS:
            group = parser.add_argument_group(_GROUPS[name])
        default = field.get_default(call_default_factory=True, validated_data={})
        shown = "" if default in (None, (), {}) else f" (default {default})"
        # A switch may be given with a value or without.
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        group.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=_metavar(name, field.annotation),
            help=f"{field.description}{shown}".replace("%", "%%"),
            dest=name,
            **switch,
        )


def _metavar(name: str, kind: Any) -> str:
    """Return what stands for the value of a setting in the help."""
    if name in _METAVARS:
        return _METAVARS[name]
    if kind is bool:
        return "{true,false}"
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    if name.endswith("_bytes"):
        return "BYTES"
    if kind is float or "seconds" in name:
        return "SECONDS"
    return {int: "N", Path: "FOLDER"}.get(kind, "JSON")


def chosen_configuration(arguments: argparse.Namespace) -> Configuration:
    """Return the configuration that the options, the environment and the file make."""
    given = {name: getattr(arguments, name) for name in Settings.model_fields if getattr(arguments, name) is not None}
    return read_configuration(given, arguments.config)
