"""The arrows between the packages: models <- export -> artefact <- service."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("models", "export", "service")

# What each package may import of the others. What an artefact is, export and service say with the same words; what else
# of the service an export needs, it starts as a process.
ALLOWED = {
    "models": {"models"},
    "export": {"export", "models", "service.manifest"},
    "service": {"service"},
}
# What is not installed with the packages.
NOT_INSTALLED = {"bench", "demo", "loadtest", "scripts", "tests"}
FORBIDDEN_LIBRARIES = {
    "models": {"av", "fastapi", "uvicorn", "onnx", "onnxruntime", "cv2"},
    "export": {"av", "fastapi", "uvicorn"},
    "service": {"torch", "onnx", "onnxscript", "safetensors", "tqdm"},
}


def imported_modules(file: Path) -> set[str]:
    """Return the absolute names that a source file imports, wherever the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} uses a relative import"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def is_within(name: str, modules: set[str]) -> bool:
    return any(name == module or name.startswith(module + ".") for module in modules)


SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("file", SOURCES, ids=[str(file.relative_to(ROOT)) for file in SOURCES])
def test_imports_follow_the_arrows(file: Path) -> None:
    package = file.relative_to(ROOT).parts[0]
    for name in imported_modules(file):
        top = name.split(".")[0]
        if top in PACKAGES:
            assert is_within(name, ALLOWED[package]), f"{package} may not import {name}"
        assert top not in FORBIDDEN_LIBRARIES[package], f"{package} may not import {top}"
        assert top not in NOT_INSTALLED, f"{package} may not import {top}"


def test_manifest_needs_nothing_heavy() -> None:
    code = (
        "import sys, service.manifest; print(sorted({'numpy','cv2','av','fastapi','onnxruntime'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
