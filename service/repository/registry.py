"""All models of the repository folder by name, which requests ask for and operators change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from service.errors import LoadFailedError, ManifestError, NotReadyError, UnknownModelError, WrongTaskError
from service.machine import ThreadPlan
from service.manifest import ClassifierManifest, Manifest, SegmenterManifest, parse_version
from service.metrics import Metrics
from service.repository.artefacts import Versions, find_artefacts
from service.repository.choice import check_names, chosen_versions, default_model, pinned_versions
from service.repository.loading import Loader
from service.repository.served import ManifestT, ServedModel
from service.repository.versions import Model
from service.settings import Settings

logger = logging.getLogger(__name__)

# What a model does and the last part of the path that asks for it.
_DOES: dict[type[Manifest], tuple[str, str]] = {
    ClassifierManifest: ("classifies", "classify"),
    SegmenterManifest: ("segments", "segment"),
}


class Repository:
    """All models.

    Args:
        settings: Where the models are, which versions are served, what runs them and how they are batched.
        metrics: Where batches are counted.
        threads: Who gets how many of them.
    """

    def __init__(self, settings: Settings, metrics: Metrics, threads: ThreadPlan) -> None:
        self._settings = settings
        self._loader = Loader(settings, metrics, threads)
        self._models: dict[str, Model] = {}
        # Versions are loaded and unloaded one at a time.
        self._changing = asyncio.Lock()
        metrics.measure_versions(self._readiness)

    def __iter__(self) -> Iterator[Model]:
        """Yield the models of which anything is served or lies in the folder, by name."""
        return (self._models[name] for name in sorted(self._models) if self._models[name].versions)

    @property
    def problem(self) -> str:
        """Why a model that is served does not answer, without its name; empty: all do."""
        return next((model.problem for model in self if model.problem), "")

    def default(self, kind: type[Manifest]) -> ServedModel[Any] | None:
        """Return the model of that kind behind the paths without a name; None while there is none.

        It is the one that the settings name, or the first by name.
        """
        name, version = default_model(self._settings)
        named = self._models.get(name) if name else None
        if name and (named is None or named.kind is None):
            # What it does is known once it is loaded: nobody else has its place until then.
            return None
        if named is not None and named.kind is kind:
            return named.default if version is None else named.alive_version(version)
        able = (model.default for model in self if model.kind is kind)
        return next((served for served in able if served), None)

    async def load(self) -> None:
        """Load what is to be served of every model in the folder.

        Raises:
            ManifestError: The folder is empty, no version of some models can be loaded, all of which are named, or the
                settings name a model or version that is not there.
        """
        async with self._changing:
            found = await asyncio.to_thread(find_artefacts, self._settings.repository)
            check_names(self._settings, found)
            # Versions by the reason why they cannot be loaded: that may be one and the same for all models.
            unserved: dict[str, list[str]] = {}
            for name, versions in found.items():
                model = self._model_of(name)
                failures = await model.update(versions)
                # The others are tried all the same: who mends one is to know of them. One of which no version is chosen
                # has none that failed.
                if not model.complete:
                    for number, reason in failures.items():
                        unserved.setdefault(reason, []).append(f"{name}/{number}")
            if unserved:
                raise ManifestError(
                    "; ".join(f"{', '.join(names)} cannot be served: {reason}" for reason, names in unserved.items())
                )
            self._log_defaults()

    def _log_defaults(self) -> None:
        """Say who answers where no model is named: without a setting, one with an earlier name takes over."""
        for kind, (_, path) in _DOES.items():
            if served := self.default(kind):
                named = default_model(self._settings)[0] == served.manifest.name
                why = "default_model" if named else "the first by name; default_model would choose another"
                logger.info("/v1/%s asks %s (%s)", path, served.manifest.name, why)

    def _model_of(self, name: str) -> Model:
        """Return the model of that name, a new one if there was none."""
        if name not in self._models:
            choice = self._settings.of_model(name).versions
            default = self._settings.default_version_of(name)
            self._models[name] = Model(name, choice, pinned_versions(self._settings, name), default, self._loader.load)
        return self._models[name]

    async def update(self) -> None:
        """Follow the folder: load what is new in it, unload what is gone.

        Raises:
            ManifestError: It cannot be read or is empty; nothing has changed then.
        """
        async with self._changing:
            found = await asyncio.to_thread(find_artefacts, self._settings.repository)
            for name in sorted(found.keys() | self._models.keys()):
                await self._model_of(name).update(found.get(name, {}))

    async def load_model(self, name: str, version: str | None) -> None:
        """Load what the settings choose of a model as it lies in the folder now, or, besides what is served, a version.

        Raises:
            UnknownModelError: It is not in the folder.
            LoadFailedError: It cannot be loaded, or the settings choose no version of it; what was served stays.
        """
        async with self._changing:
            found = await self._look_for(name)
            if version is None and not chosen_versions(self._settings, name, found):
                raise LoadFailedError(
                    f"the settings choose no version of {name} (`versions` is []): POST to "
                    f"/v2/repository/models/{name}/versions/N/load for one of {', '.join(map(str, found))}"
                )
            model = self._model_of(name)
            if failures := await model.load(self._number(name, version, found), found):
                stays = ", ".join(served.manifest.version for served in model.alive) or "none"
                raise LoadFailedError(f"{_listed(name, failures)} (versions of {name} that are served: {stays})")

    async def unload_model(self, name: str, version: str | None) -> None:
        """Serve a model no longer, or one version of it, until it is loaded again; accepted requests are finished.

        Raises:
            UnknownModelError: No such model or version.
        """
        async with self._changing:
            model = self.model(name)
            await model.unload(self._number(name, version, model.versions))

    async def _look_for(self, name: str) -> Versions:
        try:
            found = await asyncio.to_thread(find_artefacts, self._settings.repository)
        except ManifestError as error:
            raise LoadFailedError(str(error)) from error
        if name not in found:
            raise UnknownModelError(f"no model in the repository is called {name!r:.80}; there are {', '.join(found)}")
        return found[name]

    def _number(self, name: str, version: str | None, there: Mapping[int, object]) -> int | None:
        """Return the number of one of the versions that are there; None for none.

        Raises:
            UnknownModelError: It is not there.
        """
        number = None if version is None else parse_version(version)
        if version is not None and number not in there:
            raise UnknownModelError(f"{name} has no version {version!r:.40}; there are {', '.join(map(str, there))}")
        return number

    def model(self, name: str) -> Model:
        """Return all versions of the model called `name`.

        Raises:
            UnknownModelError: There is none.
        """
        model = self._models.get(name)
        if model is None or not model.versions:
            raise UnknownModelError(f"no model is called {name!r:.80}; there are {self._known()}")
        return model

    def find(self, name: str, version: str | None = None) -> ServedModel[Any]:
        """Return what serves version `version` of the model called `name`, or its default version for None.

        Raises:
            UnknownModelError: Nothing does; the message lists what there is.
            NotReadyError: It is being loaded.
        """
        model = self.model(name)
        if version is None:
            served = model.default
            states = list(model.versions.values())
        else:
            number = self._number(name, version, model.versions)
            assert number is not None
            served = model.alive_version(number)
            states = [model.versions[number]]
        if served is None and any(known.state == "LOADING" for known in states):
            raise NotReadyError(f"{name} is being loaded; try again in a moment", retry_after=1)
        if served is None:
            shown = "; ".join(f"{name}/{known.number} {known.state} {known.reason}".rstrip() for known in states)
            raise UnknownModelError(f"{name} is not served: {shown}")
        return served

    def get(self, name: str | None, version: str | None, kind: type[ManifestT]) -> ServedModel[ManifestT]:
        """Return what serves a model if it does what is asked, or the default one of that kind for None.

        Raises:
            UnknownModelError: Nothing does; the message lists what there is.
            WrongTaskError: It does something else; the message says what, and who does what was asked.
            NotReadyError: It is being loaded.
        """
        served = self.find(name, version) if name else self._find_default(kind)
        if not isinstance(served.manifest, kind):
            does, path = _DOES[type(served.manifest)]
            asked = served.manifest.name
            raise WrongTaskError(
                f"{asked} {does} ({served.manifest.task}): POST to /v1/models/{asked}/{path}. {self._able(kind)}"
            )
        return served

    def _find_default(self, kind: type[Manifest]) -> ServedModel[Any]:
        served = self.default(kind)
        if served is not None:
            return served
        does, path = _DOES[kind]
        name, version = default_model(self._settings)
        named = self._models.get(name) if name else None
        if named is None or named.kind is not kind:
            raise UnknownModelError(f"no model that {does} is loaded; there are {self._known()}")
        try:
            return self.find(named.name, None if version is None else str(version))
        except UnknownModelError as error:
            raise UnknownModelError(
                f"the default model cannot be asked: {error.detail}. POST to /v1/models/NAME/{path} for another. "
                f"{self._able(kind)}"
            ) from error

    def _able(self, kind: type[Manifest]) -> str:
        names = ", ".join(model.name for model in self if model.kind is kind and model.alive)
        return f"Models here of which one {_DOES[kind][0]}: {names or 'none'}"

    def _known(self) -> str:
        return ", ".join(model.name for model in self) or "none"

    def _readiness(self) -> dict[tuple[str, ...], float]:
        return {
            (model.name, str(version.number)): float(version.ready)
            for model in self
            for version in model.versions.values()
        }

    async def close(self) -> None:
        """Stop all models."""
        await asyncio.gather(*(model.close() for model in self._models.values()))


def _listed(name: str, failures: Mapping[int, str]) -> str:
    return "; ".join(f"{name}/{number}: {reason}" for number, reason in failures.items())
