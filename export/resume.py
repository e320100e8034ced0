"""Which orders have been carried out already."""

from __future__ import annotations

from pathlib import Path

from export.artefact import Order
from export.manifests import tool_versions
from service.manifest import MANIFEST_FILE, Artefact, ManifestError, parse_version, read_artefact


def finished(order: Order, repository: Path) -> Artefact | None:
    """Return the newest artefact of the model if it is whole and the order would make the same one, else None.

    The same: from the same checkpoint and clips, with the same precisions, largest batch and tools.
    """
    home = repository / order.name
    versions = [number for path in home.glob(f"*/{MANIFEST_FILE}") if (number := parse_version(path.parent.name))]
    if not versions:
        return None
    try:
        artefact = read_artefact(home / str(max(versions)))
    except ManifestError:
        return None
    manifest = artefact.manifest
    made = {"checkpoint": manifest.checkpoint, "clips": manifest.clips}
    same = (
        made == order.sources.facts
        and set(manifest.precisions) == set(order.precisions)
        and all(set(order.engines) <= set(entry.engines) for entry in manifest.precisions.values())
        and manifest.max_batch_size == order.max_batch_size
        and manifest.tools == tool_versions()
    )
    return artefact if same else None
