"""Engines that run an exported network, one small module each, behind one protocol."""

import os
import sys

# ONNX Runtime's Linux wheels report to their maker from the moment they are imported, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# So does `import openvino`, through a package of its own; None makes Python say that this package is not installed,
# and OpenVINO then does without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
