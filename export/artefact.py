"""Translate a registry entry into the parts of an artefact's manifest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypedDict

from models import model_entry
from service.manifest import Preprocessing, Sampling, Views


class ManifestParts(TypedDict):
    """The three parts of a manifest that say what happens before and after the network."""

    preprocessing: Preprocessing
    sampling: Sampling
    views: Views


def manifest_parts(name: str) -> ManifestParts:
    """Return preprocessing, sampling and views of model `name` in the manifest's form."""
    weights = model_entry(name).weights
    return {
        "preprocessing": Preprocessing(**asdict(weights.preprocessing), centering=weights.preprocessing.centering),
        "sampling": Sampling(**asdict(weights.sampling)),
        "views": Views(**asdict(weights.views)),
    }
