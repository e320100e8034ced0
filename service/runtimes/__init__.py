"""Engines that run an exported network, one small module each, behind one protocol."""

import os

# ONNX Runtime's Linux wheels report to their maker from the moment they are imported, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
