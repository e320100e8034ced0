"""The artefact: the one definition of what an exporter writes and the service reads.

An artefact is a folder `<repository>/<name>/<version>/` with manifest.json, the model files and the labels. To import
this needs nothing heavy, so that the exporter can use it too.
"""

from service.errors import ManifestError
from service.manifest.artefact import (
    MAX_TEXT_BYTES,
    Artefact,
    label_lines,
    open_file,
    read_artefact,
    sha256_of,
    unreadable,
)
from service.manifest.schema import (
    LABELS_FILE,
    MANIFEST_FILE,
    NAME_PATTERN,
    PALETTE_FILE,
    SCHEMA_VERSION,
    Checkpoint,
    ClassifierManifest,
    ClipFigures,
    Colour,
    EngineBuilder,
    Manifest,
    Precision,
    PrecisionName,
    Preprocessing,
    Sampling,
    SegmenterManifest,
    TensorSpec,
    Verification,
    Views,
    WholePicture,
    parse_version,
)

__all__ = [
    "LABELS_FILE",
    "MANIFEST_FILE",
    "MAX_TEXT_BYTES",
    "NAME_PATTERN",
    "PALETTE_FILE",
    "SCHEMA_VERSION",
    "Artefact",
    "Checkpoint",
    "ClassifierManifest",
    "ClipFigures",
    "Colour",
    "EngineBuilder",
    "Manifest",
    "ManifestError",
    "Precision",
    "PrecisionName",
    "Preprocessing",
    "Sampling",
    "SegmenterManifest",
    "TensorSpec",
    "Verification",
    "Views",
    "WholePicture",
    "label_lines",
    "open_file",
    "parse_version",
    "read_artefact",
    "sha256_of",
    "unreadable",
]
