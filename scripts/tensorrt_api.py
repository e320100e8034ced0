"""Write down the names in TensorRT's Python bindings: `python scripts/tensorrt_api.py WHEEL... > FILE`.

The wheels tensorrt-cu13-bindings hold the real extension module, which refuses to load without the libraries of
TensorRT itself. Registering its classes calls none of their functions, so libraries that hold nothing but functions of
these names let it load: gcc makes them. What comes out is what Python finds in the classes: their public members, and
of methods the names of the parameters, by their docstrings, for each way to call them.

Needs gcc, nm and readelf, and the Python that the wheels are for. tests/service/tensorrt_api.json was made by it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from service.runtimes.tensorrt import api  # noqa: E402

Description = dict[str, dict[str, list[list[str]]]]


def described_classes() -> list[str]:
    """Return the names of the classes that service/runtimes/tensorrt/api.py speaks of."""
    own = (value for value in vars(api).values() if getattr(value, "__module__", None) == api.__name__)
    return sorted({value.__name__ for value in own if getattr(value, "_is_protocol", False)} - {"Module"})


def describe(module: ModuleType) -> Description:
    """Return every public member of these classes, and of the module, with the parameters of each way to call it."""
    names = [name for name in sorted(vars(module)) if not name.startswith("_") or name == "__version__"]
    found = {"Module": {name: parameters(name, getattr(module, name)) for name in names}}
    for name in described_classes():
        cls = module.ILogger.Severity if name == "Severity" else getattr(module, name)
        members = [member for member in dir(cls) if not member.startswith("_")]
        found[name] = {member: parameters(member, getattr(cls, member)) for member in members}
    return found


def parameters(name: str, member: Any) -> list[list[str]]:
    """Return the names of the parameters of each overload of a method, without self, or of a function."""
    if inspect.isfunction(member):
        return [list(inspect.signature(member).parameters)]
    signatures = re.findall(rf"^(?:\d+\. )?{name}\((.*)\) -> ", getattr(member, "__doc__", "") or "", re.MULTILINE)
    return [
        [re.split("[:=]", part)[0].strip() for part in _split(signature)][1:]
        for signature in signatures
        if not signature.startswith("*")
    ]


def _split(signature: str) -> list[str]:
    """Split at the commas that are not within brackets."""
    parts, depth = [""], 0
    for character in signature:
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def describe_wheel(wheel: Path) -> dict[str, Any]:
    """Return where the names come from, and the names."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if re.fullmatch(r"\w+/tensorrt\.so", name))
        library = Path(archive.extract(member, folder))
        _write_stand_ins(library, Path(folder))
        command = [sys.executable, __file__, "--describe", str(library)]
        run = subprocess.run(command, env={"LD_LIBRARY_PATH": folder}, capture_output=True, text=True, check=True)
        classes = json.loads(run.stdout)
        classes["Module"] |= _names_in_python(archive.read(f"{Path(member).parent}/__init__.py"))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return {"wheel": wheel.name, "sha256": digest, "classes": classes}


def _names_in_python(source: bytes) -> dict[str, list[list[str]]]:
    """Return what the package adds to the extension module: its functions, and its version."""
    body = ast.parse(source).body
    functions = {node.name: [[arg.arg for arg in node.args.args]] for node in body if isinstance(node, ast.FunctionDef)}
    assigned = {name.id for node in body if isinstance(node, ast.Assign) for name in node.targets if _is_name(name)}
    return functions | ({"__version__": []} if "__version__" in assigned else {})


def _is_name(node: ast.expr) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


def _write_stand_ins(library: Path, folder: Path) -> None:
    """Write the libraries that the module is linked with and that are nowhere, with functions that return nothing."""
    undefined = subprocess.run(["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True)
    names = re.findall(r" U (create\w+|get\w*(?:Plugin|Onnx)\w+|initLib\w+)$", undefined.stdout, re.MULTILINE)
    source = folder / "stand_in.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in names))
    linked = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    for name in re.findall(r"\[(libnv\w+\.so\.\d+)\]", linked.stdout):
        subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name, source], check=True)


def _load(library: str) -> ModuleType:
    spec = spec_from_file_location("tensorrt", library)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Describe the wheels, or in a process of its own one library."""
    if sys.argv[1] == "--describe":
        print(json.dumps(describe(_load(sys.argv[2]))))
        return
    print("[", ",\n".join(json.dumps(describe_wheel(Path(wheel))) for wheel in sys.argv[1:]), "]", sep="")


if __name__ == "__main__":
    main()
