"""An export on a disk that is full says so, whoever finds out."""

import subprocess
import sys
from pathlib import Path

import pytest

from export.errors import ExportError
from export.staging import staging

ROOT = Path(__file__).parents[2]


FULL = """
mount -t tmpfs -o size=4m none {mounted} || exit 77
exec {python} -c '
import sys, tempfile
from pathlib import Path
import onnx
from onnx import TensorProto, helper, numpy_helper
import numpy as np
from export.errors import ExportError
from export.staging import staging

def by_python(folder, model):
    with tempfile.TemporaryFile() as file:
        file.write(bytes(8 << 20))

def by_onnx_in_c(folder, model):
    with tempfile.TemporaryDirectory() as scratch:
        onnx.shape_inference.infer_shapes_path(str(model), scratch + "/inferred.onnx")
        onnx.load(scratch + "/inferred.onnx")

def by_nothing(folder, model):
    raise KeyError("surprise")

values = np.ones(700_000, np.float32)
node = helper.make_node("Add", ["x", "w"], ["y"])
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [700_000]) for name in "xy")
graph = helper.make_graph([node], "graph", [x], [y], [numpy_helper.from_array(values, "w")])
repository = Path("{mounted}/below/repository")
repository.mkdir(parents=True)
try:
    with staging(repository) as stage:
        if sys.argv[1] != "by_nothing":
            onnx.save(helper.make_model(graph), stage.folder / "model.onnx")
        globals()[sys.argv[1]](stage.folder, stage.folder / "model.onnx")
except ExportError as error:
    print(error)
print([entry.name for entry in repository.parent.iterdir()])
' {cause}
"""


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("by_python", "no space left for the temporary files in {place}: make room there, or name a repository on "),
        ("by_onnx_in_c", "{place} has only 1.4 MB left for temporary files, probably too little: make room there, or "),
    ],
)
def test_full_disk_is_named(tmp_path: Path, cause: str, message: str) -> None:
    run = on_full_disk(tmp_path, cause)
    told, entries = run.stdout.splitlines()
    assert told.startswith(message.format(place=tmp_path / "below")), run.stderr
    assert entries == "['repository']"


def test_what_has_another_cause_is_not_put_on_the_disk(tmp_path: Path) -> None:
    assert "KeyError: 'surprise'" in on_full_disk(tmp_path, "by_nothing").stderr


def on_full_disk(folder: Path, cause: str) -> subprocess.CompletedProcess[str]:
    """Let something happen in the staging folder of a repository on a disk of 4 MiB."""
    script = FULL.format(mounted=folder, python=sys.executable, cause=cause)
    run = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    if "unshare" in run.stderr or run.returncode == 77:
        pytest.skip(f"no mount of its own can be had here: {run.stderr}")
    return run


def test_failure_that_names_no_file_gets_the_folder(tmp_path: Path) -> None:
    message = rf"^\[Errno 27\] File too large \(temporary files lie in {tmp_path}\)$"
    with pytest.raises(ExportError, match=message), staging(tmp_path / "repository"):
        raise OSError(27, "File too large")
