"""Which requests have been carried out already."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from export.artefact import ExportRequest
from export.classes import Classes
from export.engines import builder_version
from export.manifests import make_manifest
from service.manifest import MANIFEST_FILE, Artefact, ManifestError, parse_version, read_artefact


def finished(request: ExportRequest, repository: Path, version: int | None = None) -> Artefact | None:
    """Return a version of the model, by default the newest, if it is whole and the request would make the same one.

    The same: from the same checkpoint and clips, with the same precisions, engines, largest batch, protocol, labels and
    colours, by the same tools and code.
    """
    home = repository / request.served_as
    version = version or _newest(home)
    if version is None:
        return None
    try:
        artefact = read_artefact(home / str(version))
    except (ManifestError, OSError):
        return None
    return artefact if _has_what_is_asked(artefact, request) and _would_be_made_now(artefact, request) else None


def _newest(home: Path) -> int | None:
    numbers = (number for path in home.glob(f"*/{MANIFEST_FILE}") if (number := parse_version(path.parent.name)))
    return max(numbers, default=None)


def _has_what_is_asked(artefact: Artefact, request: ExportRequest) -> bool:
    manifest, engines = artefact.manifest, {builder: builder_version(builder) for builder in request.engines}
    return (
        set(manifest.precisions) == set(request.precisions)
        # A builder that cannot be asked is None, and confirms nothing.
        and all(engines.items() <= entry.engines.items() for entry in manifest.precisions.values())
        and manifest.max_batch_size == request.max_batch_size
    )


def _would_be_made_now(artefact: Artefact, request: ExportRequest) -> bool:
    """Tell whether the manifest would say the same of the artefact's files if it were written now."""
    was, classes = artefact.manifest, request.classes
    if was.parity is None or Classes(artefact.labels, artefact.palette) != classes:
        return False
    try:
        now = make_manifest(
            request.name,
            was.version,
            served_as=request.served_as,
            sources=request.sources,
            num_classes=len(classes.labels),
            files=was.files,
            precisions=was.precisions,
            parity=was.parity,
        )
    except ValidationError:
        # It has not the files that an artefact of today has.
        return False
    return was == now
