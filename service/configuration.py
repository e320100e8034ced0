"""Where the settings come from: options, the environment, a TOML file, and the defaults, in this order."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from service.settings import LESS_THAN_ANOTHER, ApiKey, ModelSettings, Settings
from service.validation import described, meant, similar

Source = Literal["option", "environment", "file", "default"]

PREFIX = Settings.model_config["env_prefix"]
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
# Of no setting, but read by the settings' file, other verbs, the load tests and the tests.
_NO_SETTINGS = frozenset(
    {CONFIG_VARIABLE, *(PREFIX + name for name in ["API_KEY", "CLIPS", "EXPECT_BROWSER", "GPU_PROMISED"])}
)
# What is never shown, be it right or wrong: somebody may have written the secret itself where its digest belongs.
SECRET = frozenset({"api_keys"})
# What the entries of a setting are that has such with names of their own.
_INNER: dict[str, type[BaseModel]] = {"api_keys": ApiKey, "models": ModelSettings}
# What needs no quotes where TOML has a key.
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Configuration:
    """The settings in force.

    Attributes:
        settings: All of them, without what is wrong.
        file: The file that was read, or None.
        sources: Where each setting was found, by name.
        problems: What is wrong: where it was given, its name, its value, and what it may be. There should be none.
    """

    settings: Settings
    file: Path | None
    sources: Mapping[str, Source]
    problems: list[str]


def read_configuration(options: Mapping[str, Any], file: Path | None = None) -> Configuration:
    """Return the settings; what stands in one place replaces what the places behind it say of the same setting.

    Args:
        options: Settings given on the command line.
        file: TOML file with more of them; None: the one that CLIPSERVE_CONFIG names, if it does.
    """
    if file is None and (named := os.environ.get(CONFIG_VARIABLE)):
        file = Path(named)
    from_file, problems = ({}, []) if file is None else _read_file(file)
    from_environment = EnvSettingsSource(Settings)()
    values = {**from_file, **from_environment, **options}
    places: dict[str, Source] = {
        **dict.fromkeys(Settings.model_fields, "default"),
        **dict.fromkeys(from_file, "file"),
        **dict.fromkeys(from_environment, "environment"),
        **dict.fromkeys(options, "option"),
    }
    problems += [_unknown(f"file {file}", name, Settings) for name in from_file if name not in Settings.model_fields]
    known = {name: value for name, value in values.items() if name in Settings.model_fields}
    settings, errors = _sound(known)
    problems += [_wrong(item, places, file) for item in errors]
    sources: dict[str, Source] = {name: places[name] if name in known else "default" for name in Settings.model_fields}
    return Configuration(settings, file, sources, problems)


def unread_variables() -> dict[str, str]:
    """Return the variables of the environment that are called like settings and are none, with what each may mean.

    That is empty where no setting is called nearly so.
    """
    settings = [name.upper() for name in Settings.model_fields]
    ours = {name.upper() for name in os.environ if name.upper().startswith(PREFIX)}
    unread: dict[str, str] = {}
    for name in sorted(ours - _NO_SETTINGS - {PREFIX + setting for setting in settings}):
        close = similar(name.removeprefix(PREFIX), settings)
        unread[name] = f"did you mean {PREFIX}{close}?" if close else ""
    return unread


def _sound(values: dict[str, Any]) -> tuple[Settings, list[ErrorDetails]]:
    """Return the settings without the values that are wrong, which are taken out of `values`, and why these are."""
    try:
        return Settings(**values), []
    except ValidationError as error:
        errors = error.errors()
    for name in {_to_blame(item, values) for item in errors}:
        del values[name]
    return _sound(values)[0], errors


def _to_blame(item: ErrorDetails, given: Mapping[str, Any]) -> str:
    """Return the setting whose value is wrong: the one that was given, if it is only at odds with a default."""
    name = str(item["loc"][0])
    return item["ctx"]["other"] if name not in given and item["type"] == LESS_THAN_ANOTHER else name


def shown(name: str, value: object) -> str:
    """Return the value of setting `name` as the file would have it, which knows no None; never a secret's."""
    if name not in SECRET:
        return "none" if value is None else _toml(value)
    return f"{len(value)} (hidden)" if isinstance(value, tuple) else "(hidden)"


def _toml(value: object) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if isinstance(value, dict):
        entries = [
            f"{key if _BARE_KEY.fullmatch(key) else _toml(key)} = {_toml(inner)}" for key, inner in value.items()
        ]
        return f"{{{', '.join(entries)}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # Numbers, booleans and texts are written in TOML as in JSON.
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)


def _read_file(file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what stands in the file, and why nothing can be read from it."""
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened), []
    except OSError as error:
        return {}, [f"file {file} cannot be read: {error.strerror}"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return {}, [f"file {file} is not TOML: {error}"]


def _unknown(place: str, name: str, there: type[BaseModel]) -> str:
    """Return what to say of a name; never its value, which may be a secret under a name that is spelt wrong."""
    # Somebody may have written the name of the variable.
    hint = meant(name.rpartition(".")[2].lower().removeprefix(PREFIX.lower()), there.model_fields)
    return f"{place}: {name}: no setting is called so; {hint}"


def _wrong(item: ErrorDetails, places: Mapping[str, Source], file: Path | None) -> str:
    # What a type is called stands among the parts, where there are several of which a value may be.
    name, *within = (str(part) for part in item["loc"] if "[" not in str(part))
    if places[name] == "default":
        return _at_odds(item, name, places, file)
    place = _place(name, places[name], file)
    path = ".".join([name, *within])
    if item["type"] != "extra_forbidden":
        return f"{place}: {described(item, path, hidden=name in SECRET)}{_cause(item['input'], places[name])}"
    if places[name] == "file" and within[-1] in Settings.model_fields:
        return f"{place}: {path}: a setting of the server, which must stand before the first [table] of the file"
    return _unknown(place, path, _INNER[name])


def _at_odds(item: ErrorDetails, name: str, places: Mapping[str, Source], file: Path | None) -> str:
    """Return what to say of a value that is at odds with a default, which nobody who gave it needs to know."""
    other, least = item["ctx"]["other"], item["ctx"]["least"]
    place = _place(other, places[other], file)
    return f"{place}: {other}={least}: more than {name}={item['input']} (default), which may not be less: give both"


def _place(name: str, source: Source, file: Path | None) -> str:
    """Return where the value of a setting was given, as the user wrote it."""
    if source == "file":
        return f"file {file}"
    return f"--{name.replace('_', '-')}" if source == "option" else PREFIX + name.upper()


def _cause(value: object, source: Source) -> str:
    """Return how a value may have come about that nobody gave."""
    if source != "environment" or not str(value).startswith("tcp://"):
        return ""
    return (
        ". Kubernetes sets this for a service called clipserve: call that otherwise, or set enableServiceLinks: false"
    )
