"""Which orders have been carried out already."""

from __future__ import annotations

from pathlib import Path

from export.artefact import Order
from export.manifests import tool_versions
from service.manifest import MANIFEST_FILE, Artefact, ManifestError, read_artefact


def finished(order: Order, repository: Path) -> Artefact | None:
    """Return the newest artefact of the model if it is whole and the order would make the same one, else None.

    The same: from the same checkpoint and clips, with the same precisions, largest batch and tools.
    """
    versions = [path.parent for path in (repository / order.name).glob(f"*/{MANIFEST_FILE}")]
    newest = max(versions, key=lambda folder: int(folder.name), default=None)
    if newest is None:
        return None
    try:
        artefact = read_artefact(newest)
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
