"""The benchmark of whole networks: everybody does the same work."""

from pathlib import Path

import numpy as np
import pytest

from bench import networks
from bench.artefacts import Subject

SEGMENTOR = "uniformer_tiny_shapes_fpn"


def test_every_runtime_makes_the_logits_of_a_segmentation_network(
    monkeypatch: pytest.MonkeyPatch, artefact_repository: Path
) -> None:
    file = artefact_repository / SEGMENTOR / "1" / "model.onnx"
    monkeypatch.setattr(networks, "runtimes", lambda: [("onnxruntime", "fp32"), ("openvino", "fp32")])
    monkeypatch.setattr(networks, "files_of", lambda _: {"fp32": file})
    subject = Subject(SEGMENTOR, size=64)
    eager, *others = [contestant.run() for contestant in networks.contestants(subject, 1).values()]
    assert isinstance(eager, tuple)
    of_torch = next(output for output in eager if output.is_floating_point())
    for logits in others:
        assert isinstance(logits, np.ndarray)
        assert (logits.shape, logits.dtype) == (of_torch.shape, np.float32)
