"""What our code calls of TensorRT, ONNX Runtime and CUDA exists there, under these names and with these parameters.

tensorrt_api.json holds the names in the bindings of TensorRT 10.16.1.11 and 11.4.0.106; scripts/tensorrt_api.py took
them from the wheels that it names. TensorRT-RTX, cuda-bindings and ONNX Runtime are asked themselves.
"""

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime as ort
import pytest
import tensorrt_rtx
from cuda.bindings import runtime as cuda

from scripts.tensorrt_api import describe
from service.runtimes.tensorrt import api

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service/runtimes/tensorrt"
WHEELS = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
BINDINGS: dict[str, dict[str, dict[str, list[list[str]]]]] = {
    **{wheel["wheel"].split("-cp")[0]: wheel["classes"] for wheel in WHEELS},
    "tensorrt_rtx": describe(tensorrt_rtx),
}


def missing(source: str, names: dict[str, dict[str, list[list[str]]]]) -> list[str]:
    """Return what the protocols in a source file speak of and the bindings do not have."""
    lacking = []
    for cls in ast.parse(source).body:
        if not isinstance(cls, ast.ClassDef) or not any("Protocol" in ast.unparse(base) for base in cls.bases):
            continue
        for member in cls.body:
            if isinstance(member, ast.AnnAssign):
                name, arguments = ast.unparse(member.target), None
            elif isinstance(member, ast.FunctionDef):
                name, arguments = member.name, [argument.arg for argument in member.args.args[1:]]
            else:
                continue
            if name == "__buffer__":  # in C, where Python sees no name
                continue
            known = names.get(cls.name, {})
            if name not in known:
                lacking.append(f"{cls.name}.{name}")
            elif arguments is not None and not any(way[: len(arguments)] == arguments for way in known[name]):
                lacking.append(f"{cls.name}.{name}({', '.join(arguments)})")
    return lacking


def test_names_are_of_the_versions_that_we_speak_of() -> None:
    assert set(BINDINGS) == {
        "tensorrt_cu13_bindings-10.16.1.11",
        "tensorrt_cu13_bindings-11.4.0.106",
        "tensorrt_rtx",
    }
    # Known differences between them: what 11 has dropped.
    assert "EXPLICIT_BATCH" in BINDINGS["tensorrt_cu13_bindings-10.16.1.11"]["NetworkDefinitionCreationFlag"]
    assert "EXPLICIT_BATCH" not in BINDINGS["tensorrt_cu13_bindings-11.4.0.106"]["NetworkDefinitionCreationFlag"]


@pytest.mark.parametrize("bindings", BINDINGS)
def test_everything_that_is_called_is_in_the_bindings(bindings: str) -> None:
    assert missing((PACKAGE / "api.py").read_text(), BINDINGS[bindings]) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class Builder(Protocol):\n def build_cuda_engine(self, network): ...", ["Builder.build_cuda_engine"]),
        ("class ITensor(Protocol):\n colour: str", ["ITensor.colour"]),
        ("class Engine(Protocol):\n name: str", ["Engine.name"]),
        (
            "class OnnxParser(Protocol):\n def get_error(self, number): ...",
            ["OnnxParser.get_error(number)"],
        ),
        ("class OnnxParser(Protocol):\n def get_error(self, index): ...", []),
    ],
)
def test_check_finds_what_is_missing(source: str, expected: list[str]) -> None:
    for names in BINDINGS.values():
        assert missing(source, names) == expected


def test_nothing_goes_around_the_protocols() -> None:
    """What mypy takes for Any it does not hold to a protocol."""
    for file in PACKAGE.glob("*.py"):
        source = file.read_text()
        assert "getattr(" not in source, file
        assert "type: ignore" not in source, file
        imported = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
        assert not any(str(module).split(".")[0] in ("tensorrt", "tensorrt_rtx") for module in imported), file
    assert api.load_bindings("tensorrt_rtx").__version__ == tensorrt_rtx.__version__


def dotted_names(file: Path, root: str) -> Iterator[str]:
    """Yield the attributes that a source file takes from the name `root`, however deep."""
    for node in ast.walk(ast.parse(file.read_text())):
        text = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if text.startswith(f"{root}."):
            yield text.removeprefix(f"{root}.")


@pytest.mark.parametrize(
    ("file", "root", "module"), [("gpu.py", "cuda", cuda), ("onnx_cuda.py", "ort", ort)], ids=["cuda", "onnxruntime"]
)
def test_modules_have_what_is_taken_from_them(file: str, root: str, module: ModuleType) -> None:
    names = set(dotted_names(ROOT / "service/runtimes" / file, root))
    assert len(names) > 2
    for name in names:
        value: Any = module
        for part in name.split("."):
            value = getattr(value, part)


def test_onnx_runtime_binds_memory_as_it_is_called() -> None:
    inspect.signature(ort.IOBinding.bind_input).bind(None, "frames", "cuda", 0, int, (1, 2), 1234)
    inspect.signature(ort.IOBinding.bind_output).bind(None, "logits", "cpu")
    inspect.signature(ort.IOBinding.copy_outputs_to_cpu).bind(None)
    inspect.signature(ort.InferenceSession.run_with_iobinding).bind(None, None)
