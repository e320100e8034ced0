"""Where the settings come from: options, the environment, a TOML file, and the defaults, in this order."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from service.settings import ApiKey, ModelSettings, Settings

Source = Literal["option", "environment", "file", "default"]

CONFIG_VARIABLE = "CLIPSERVE_CONFIG"
# What is never shown, be it right or wrong: somebody may have written the secret itself where its digest belongs.
SECRET = frozenset({"api_keys"})
# What the entries of a setting are that has such with names of their own.
_INNER: dict[str, type[BaseModel]] = {"api_keys": ApiKey, "models": ModelSettings}


class ConfigurationError(Exception):
    """The settings cannot be used.

    Attributes:
        problems: Each names where the setting was given, its name, its value, and what it may be.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Configuration:
    """The settings in force.

    Attributes:
        settings: All of them.
        file: The file that was read, or None.
        sources: Where each setting was found, by name.
    """

    settings: Settings
    file: Path | None
    sources: Mapping[str, Source]


def read_configuration(options: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Return the settings; what stands in one place replaces what the places behind it say of the same setting.

    Args:
        options: Settings given on the command line.
        file: TOML file with more of them; None: the one that CLIPSERVE_CONFIG names, if it does.

    Raises:
        ConfigurationError: The file cannot be read, a name in it is unknown, or a value is not allowed.
    """
    if file is None and (named := os.environ.get(CONFIG_VARIABLE)):
        file = Path(named)
    from_file = {} if file is None else _read_file(file)
    from_environment = EnvSettingsSource(Settings)()
    values = {**from_file, **from_environment, **options}
    places: dict[str, Source] = {
        **dict.fromkeys(Settings.model_fields, "default"),
        **dict.fromkeys(from_file, "file"),
        **dict.fromkeys(from_environment, "environment"),
        **dict.fromkeys(options, "option"),
    }
    unknown = [_unknown(f"file {file}", name, Settings) for name in from_file if name not in Settings.model_fields]
    try:
        settings = Settings(**{name: value for name, value in values.items() if name in Settings.model_fields})
    except ValidationError as error:
        raise ConfigurationError(unknown + [_wrong(item, places, file) for item in error.errors()]) from None
    if unknown:
        raise ConfigurationError(unknown)
    return Configuration(settings, file, places)


def shown(name: str, value: object) -> str:
    """Return the value of setting `name` for people; never a secret's."""
    if name not in SECRET:
        return str(value)
    return f"{len(value)} (hidden)" if isinstance(value, tuple) else "(hidden)"


def _read_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except OSError as error:
        raise ConfigurationError([f"file {file} cannot be read: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"file {file} is not TOML: {error}"]) from None


def _unknown(place: str, name: str, there: type[BaseModel]) -> str:
    """Return what to say of a name; never its value, which may be a secret under a name that is spelt wrong."""
    similar = get_close_matches(name.rpartition(".")[2], there.model_fields, n=1)
    hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(there.model_fields)}"
    return f"{place}: {name}: no setting is called so; {hint}"


def _wrong(item: ErrorDetails, places: Mapping[str, Source], file: Path | None) -> str:
    name, *within = map(str, item["loc"])
    source = places[name]
    place = f"file {file}" if source == "file" else source
    if item["type"] == "extra_forbidden":
        return _unknown(place, ".".join([name, *within]), _INNER[name])
    value = "(hidden)" if name in SECRET else f"{item['input']!r:.80}"
    return f"{place}: {'.'.join([name, *within])}={value}: {item['msg']}"
