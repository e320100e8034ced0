"""The versions of one model: which of them are to be served, and how they come and go without losing a request."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.errors import ManifestError, RuntimeLoadError
from service.manifest import Manifest
from service.repository.artefacts import Found
from service.repository.choice import shown_choice, wanted_versions
from service.repository.served import ServedModel
from service.settings import VersionChoice

logger = logging.getLogger(__name__)

# The folders of an absolute path; what stands behind a word, as in a URL or a ratio, is none.
_OTHER_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/:'\"]+/)+")

# The names of Triton's model repository extension.
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


@dataclass
class Version:
    """One version, served or not.

    Attributes:
        number: Its own.
        found: As it lies in the folder; None: it no longer does.
        model: What takes its requests; None: nothing.
        source: The `manifest` of what `model` was loaded from.
        failed: What could not be loaded; it is tried again when it changes.
        problem: Why not.
        idle: Why nothing was tried.
        loading: Whether it is being loaded.
        draining: Models of this version that finish their accepted requests.
    """

    number: int
    found: Found | None = None
    model: ServedModel[Any] | None = None
    source: str = ""
    failed: Found | None = None
    problem: str = ""
    idle: str = ""
    loading: bool = False
    draining: int = 0

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self.model is not None and self.model.batcher.alive

    @property
    def ready(self) -> bool:
        """Whether it answers the requests that it takes."""
        return self.model is not None and not self.model.batcher.problem

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.model is not None:
            return "READY" if self.ready else "UNAVAILABLE"
        if self.loading:
            return "LOADING"
        return "UNLOADING" if self.draining else "UNAVAILABLE"

    @property
    def reason(self) -> str:
        """Why it stands there; of a version that is ready, why the folder's newer content of it is not served."""
        if self.model is not None and not self.ready:
            return self.model.batcher.problem
        return self.problem or ("" if self.model or self.loading else self.idle)


class Model:
    """All versions of one model.

    A version is loaded and warm before it gets requests, and closed when those that it accepted are done. One that
    cannot be loaded takes nothing away from the others.

    Args:
        name: Of the model.
        choice: Which versions of the folder are served.
        pinned: Versions that are served besides: the settings name them.
        default: Version that requests without one get; None: the highest that is ready.
        load: Loads an artefact folder.

    Attributes:
        kind: What it does, once a version was loaded.
    """

    def __init__(
        self,
        name: str,
        choice: VersionChoice,
        pinned: frozenset[int],
        default: int | None,
        load: Callable[[Path], Awaitable[ServedModel[Any]]],
    ) -> None:
        self.name = name
        self.choice = choice
        self.versions: dict[int, Version] = {}
        self.kind: type[Manifest] | None = None
        self._pinned = pinned
        self._default = default
        self._load = load
        # Versions that were asked for one by one, instead of `choice`; None: none were.
        self._by_hand: frozenset[int] | None = None
        self._drains: set[asyncio.Task[None]] = set()

    @property
    def alive(self) -> list[ServedModel[Any]]:
        """What takes requests, by version, ascending."""
        return [version.model for version in self.versions.values() if version.model and version.alive]

    @property
    def default(self) -> ServedModel[Any] | None:
        """What takes requests without a version; None: nothing does.

        A default that the settings name is never replaced by another version.
        """
        if self._default is not None:
            return self.alive_version(self._default)
        return self.alive[-1] if self.alive else None

    def alive_version(self, number: int) -> ServedModel[Any] | None:
        """Return what takes requests to a version; None: nothing does."""
        version = self.versions.get(number)
        return version.model if version and version.alive else None

    @property
    def queue_depth(self) -> int:
        """Views that wait for their run, in all versions together."""
        return sum(served.batcher.queue_depth for served in self.alive)

    @property
    def problem(self) -> str:
        """Why requests are not answered; empty: a version takes them, if one is to, and those that do answer."""
        served = [version.model.batcher for version in self.versions.values() if version.model]
        problems = [batcher.problem for batcher in served if batcher.problem and (batcher.alive or not self.alive)]
        return problems[0] if problems else ""

    @property
    def complete(self) -> bool:
        """Whether requests without a version are taken, and those to each version that the settings name."""
        return self.default is not None and all(self.alive_version(number) for number in self._pinned)

    async def load(self, number: int | None, found: Mapping[int, Found]) -> dict[int, str]:
        """Serve what the settings choose, or, besides exactly what is served now, version `number`; see `update`.

        A version that cannot be loaded changes nothing, nor what is served from later updates on.

        Returns:
            Why versions that were asked for are not served, or not as they lie in the folder, by number.
        """
        if number is None:
            self._by_hand = None
            return await self.update(found, again=True)
        before = self._by_hand
        self._by_hand = self._served | {number}
        failures = await self._bring_about(self._by_hand, found, again=True)
        if number not in failures:
            return {}
        self._by_hand = before
        return {number: failures[number]}

    async def unload(self, number: int | None) -> None:
        """Serve, from now on, exactly what is served now, but for version `number`, or None: nothing."""
        self._by_hand = frozenset() if number is None else self._served - {number}
        found = {version.number: version.found for version in self.versions.values() if version.found}
        await self._bring_about(self._by_hand, found)

    @property
    def _served(self) -> frozenset[int]:
        return frozenset(version.number for version in self.versions.values() if version.model)

    async def update(self, found: Mapping[int, Found], again: bool = False) -> dict[int, str]:
        """Load and unload until what is served is what is wanted of the versions in the folder.

        A version that could not be loaded before is tried when its files have changed, or with `again` in any case. As
        long as nothing that is wanted can be loaded, what is served stays.

        Returns:
            Why versions that were to be served are not, or not as they lie in the folder, by number.
        """
        return await self._bring_about(self._wanted(found), found, again)

    async def _bring_about(
        self, wanted: frozenset[int], found: Mapping[int, Found], again: bool = False
    ) -> dict[int, str]:
        """Do as `update` says of the versions that are `wanted`, each of which lies in the folder or is served."""
        for number in sorted(found.keys() | self.versions.keys()):
            self.versions.setdefault(number, Version(number)).found = found.get(number)
        self.versions = dict(sorted(self.versions.items()))
        kept: set[int] = set()
        failures: dict[int, str] = {}
        for number in sorted(wanted, reverse=True):
            enough = kept and self.choice == "latest" and self._by_hand is None
            if enough and number not in self._pinned:
                continue
            version = self.versions[number]
            if await self._bring_up(version, again):
                kept.add(number)
            if version.problem:
                failures[number] = version.problem
        for version in list(self.versions.values()):
            if version.number not in kept and (kept or not wanted):
                self._take_down(version, wanted)
        self._forget()
        return failures

    def _wanted(self, found: Mapping[int, Found]) -> frozenset[int]:
        """Return the versions that may be served."""
        if self._by_hand is not None:
            return self._by_hand & found.keys()
        return wanted_versions(self.choice, self._pinned, found)

    async def _bring_up(self, version: Version, again: bool) -> bool:
        """Load the version as it lies in the folder, if it is not loaded; return whether it then takes requests."""
        found = version.found
        if found is None:
            return version.alive
        if version.alive and version.source == found.manifest:
            version.failed, version.problem = None, ""
            return True
        if version.failed == found and not again:
            return version.alive
        version.loading = True
        try:
            model = await self._load(found.folder)
            await self._refuse_other_task(version, model)
        except Exception as error:
            version.failed, version.problem = found, _without_paths(self._explain(version.number, error), found.folder)
            return version.alive
        finally:
            version.loading = False
        self.kind = type(model.manifest)
        replaced = version.model
        version.model, version.source, version.failed, version.problem = model, found.manifest, None, ""
        if replaced:
            self._drain(version, replaced)
        return True

    async def _refuse_other_task(self, version: Version, model: ServedModel[Any]) -> None:
        """Close what was loaded as a version if the others that are served do something else.

        Raises:
            ManifestError: They do.
        """
        others = [served.manifest for served in self.alive if served is not version.model]
        try:
            for other in others:
                check_task(model.manifest, other)
        except ManifestError:
            await model.close()
            raise

    def _explain(self, number: int, error: Exception) -> str:
        # What an operator can mend is named; anything else is a fault of ours and needs its traceback.
        named = isinstance(error, (ManifestError, RuntimeLoadError))
        logger.error("cannot load %s/%d: %s", self.name, number, error, exc_info=not named)
        return str(error) if named else f"{type(error).__name__}; the server's log has more"

    def _take_down(self, version: Version, wanted: frozenset[int]) -> None:
        unchosen = f"not chosen: `versions` is {shown_choice(self.choice)}"
        version.idle = unchosen if self._by_hand is None else "unloaded"
        if version.number not in wanted:
            version.failed, version.problem = None, ""
        if version.model is not None:
            model, version.model = version.model, None
            self._drain(version, model)

    def _drain(self, version: Version, model: ServedModel[Any]) -> None:
        version.draining += 1
        task = asyncio.get_running_loop().create_task(self._retire(version, model))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _retire(self, version: Version, model: ServedModel[Any]) -> None:
        try:
            await model.retire()
        finally:
            version.draining -= 1
            self._forget()
        logger.info("unloaded %s/%d", self.name, version.number)

    def _forget(self) -> None:
        """Drop the versions of which nothing is left."""
        for version in list(self.versions.values()):
            if version.found is None and version.model is None and not version.draining:
                del self.versions[version.number]

    async def close(self) -> None:
        """Stop all versions, at once."""
        for task in self._drains:
            task.cancel()
        closing = [version.model.close() for version in self.versions.values() if version.model]
        await asyncio.gather(*closing, *self._drains, return_exceptions=True)


def check_task(manifest: Manifest, served: Manifest) -> None:
    """Check that a version does what another one does that is served: a path without a version asks all of them.

    Args:
        manifest: Of the version that is to be served.
        served: Of the other one.

    Raises:
        ManifestError: It does something else.
    """
    if type(manifest) is not type(served):
        raise ManifestError(
            f"{manifest.full_name} is for {manifest.task}, and {served.full_name}, which is served, for "
            f"{served.task}: export it under a name of its own"
        )


def _without_paths(text: str, folder: Path) -> str:
    """Return a text for clients with the names of files below the repository alone, and no other folder of the server.

    Args:
        text: What libraries say of a file has its whole path, too.
        folder: That of the version.
    """
    for repository in (folder.parents[1], folder.parents[1].resolve()):
        text = text.replace(f"{repository}/", "")
    return _OTHER_FOLDERS.sub("", text)
