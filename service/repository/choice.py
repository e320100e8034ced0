"""What the settings say about models and versions by name, and whether the repository folder has it."""

from __future__ import annotations

from collections.abc import Mapping

from service.errors import ManifestError
from service.manifest import parse_version
from service.repository.artefacts import Versions
from service.settings import Settings, VersionChoice


def shown_choice(choice: VersionChoice) -> str:
    """Return for people which versions of a model are served."""
    return choice if isinstance(choice, str) else ", ".join(map(str, choice)) or "[]"


def default_model(settings: Settings) -> tuple[str | None, int | None]:
    """Return the name, and the version if there is one, of the default model; None: the settings name none."""
    name, _, version = (settings.default_model or "").partition("/")
    return name or None, parse_version(version)


def pinned_versions(settings: Settings, name: str) -> frozenset[int]:
    """Return the versions of a model that are served because the settings make them a default."""
    model, version = default_model(settings)
    named = (settings.default_version_of(name), version if model == name else None)
    return frozenset(number for number in named if number is not None)


def wanted_versions(choice: VersionChoice, pinned: frozenset[int], found: Mapping[int, object]) -> frozenset[int]:
    """Return which versions that lie in the folder may be served; of "latest" the highest that can be loaded will be.

    Args:
        choice: What the settings choose.
        pinned: Versions that are served besides.
        found: All that lie in the folder.
    """
    return frozenset(found) if isinstance(choice, str) else (frozenset(choice) | pinned) & found.keys()


def chosen_versions(settings: Settings, name: str, found: Mapping[int, object]) -> frozenset[int]:
    """Return which of all versions of a model that lie in the folder the settings choose; see `wanted_versions`."""
    return wanted_versions(settings.of_model(name).versions, pinned_versions(settings, name), found)


def check_names(settings: Settings, found: Mapping[str, Versions]) -> None:
    """Check that the models and versions that the settings name are in the folder, and leave something to serve.

    Raises:
        ManifestError: One is not, and the message says which, and what there is; or nothing would be served.
    """
    there = f"not in {settings.repository}: {', '.join(found)}"
    name, _ = default_model(settings)
    if name is not None and name not in found:
        raise ManifestError(f"default model {settings.default_model!r} is {there}")
    if strangers := sorted(set(settings.models) - set(found)):
        raise ManifestError(f"`models` names {', '.join(strangers)}, {there}")
    for model, versions in found.items():
        choice = settings.of_model(model).versions
        named = pinned_versions(settings, model) | (set() if isinstance(choice, str) else set(choice))
        if missing := sorted(named - set(versions)):
            raise ManifestError(
                f"the settings name version {', '.join(map(str, missing))} of {model}, not in {settings.repository}: "
                f"{', '.join(map(str, versions))}"
            )
    served = [model for model, versions in found.items() if chosen_versions(settings, model, versions)]
    if not served:
        raise ManifestError(
            f"`versions` is [], so that nothing is served of what is in {settings.repository}: {', '.join(found)}; "
            "choose versions of a model in `models`"
        )
    if name is not None and name not in served:
        raise ManifestError(
            f"default model {settings.default_model!r} is not served, since `versions` is [] for it; there are "
            f"{', '.join(served)}"
        )
