"""int8 files of every family: OpenVINO, which they are made for, computes what they say, as ONNX Runtime reads it."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from bench.layers import of_openvino
from demo.labelled import write_clips
from export.clips import read_clips
from export.graph import export_onnx, input_shape, served_network
from export.quantization import quantise_everything
from models import create_model, load_checkpoint, load_labels, model_entry
from service.runtimes.openvino_cpu import OpenVinoCpuRuntime, has_bfloat16
from tests.server import ROOT

SEED, CLIPS = 79, 12


# The light UniFormer is left out: it chooses tokens, and a choice that is nearly a tie falls this way or that.
@pytest.mark.parametrize(
    "name",
    ["uniformer_tiny_shapes", "morphmlp_tiny_shapes", "mvit_tiny_shapes", "mlp3d_tiny_shapes", "smlpnet_tiny_shapes"],
)
def test_openvino_computes_what_the_file_says(name: str, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", CLIPS, SEED, model_entry(name).weights.labels)
    known = load_labels(model_entry(name).weights.labels)
    views = read_clips(tmp_path / "clips", name, known).views
    network = create_model(name)
    load_checkpoint(network, ROOT / "demo/weights" / f"{name}.safetensors")
    source, file = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    # As an export does it: the graph that suits OpenVINO, whose operators are not all those of the one that it serves
    # in float32.
    export_onnx(served_network(network), input_shape(name), 2, source, "openvino")
    quantise_everything(source, file, views)
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    served = OpenVinoCpuRuntime(file, "int8", threads=2)
    # What it does not quantise, some layers of sMLPNet for one, is in bfloat16 where the CPU has it.
    assert set(of_openvino(served)) <= {"i8", "u8", "bf16" if has_bfloat16() else "f32"}
    wanted = np.concatenate([session.run(["logits"], {"frames": view[None]})[0] for view in views])
    actual = np.concatenate([served.run(view[None], "logits") for view in views])
    differences = np.linalg.norm(actual - wanted, axis=1) / np.linalg.norm(
        wanted - wanted.mean(axis=1, keepdims=True), axis=1
    )
    # The runtimes round at different places, by a few steps of 127. What is computed wrongly is off by about 1.
    assert np.median(differences) < 0.05
