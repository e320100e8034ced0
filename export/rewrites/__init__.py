"""Changes to an exported graph that leave its outputs as they are and make a runtime faster; one module a change.

Those of int8.py are made when a file is quantised, and keep a runtime right.
"""

from __future__ import annotations

from typing import Literal

import onnx
import onnx_ir as ir
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import rewrite

from export.rewrites.batch_norm import FoldBatchNorm
from export.rewrites.conv_types import unify_types
from export.rewrites.merged_transposes import MergeTransposes
from export.rewrites.time_as_channels import TimeAsChannels

RuntimeName = Literal["onnxruntime", "openvino"]
# Elements of what is computed once and for all. The exporter's own limit leaves position embeddings to each start.
_LARGEST_CONSTANT = 1 << 25


def rewritten(model: onnx.ModelProto, runtime: RuntimeName) -> onnx.ModelProto:
    """Return the model with its constants folded and every change that suits the runtime."""
    rules = [FoldBatchNorm.rule(), MergeTransposes.rule()]  # type: ignore[no-untyped-call]
    if runtime == "onnxruntime":
        rules.append(TimeAsChannels.rule())  # type: ignore[no-untyped-call]
    graph = ir.from_proto(model)
    unify_types(graph)
    fold_constants(graph, input_size_limit=_LARGEST_CONSTANT, output_size_limit=_LARGEST_CONSTANT)
    return ir.to_proto(rewrite(graph, rules))
