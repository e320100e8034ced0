"""The export stage: torch network -> ONNX -> verification -> artefact folder."""
