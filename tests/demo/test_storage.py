"""What the demo keeps is whole: interrupted writing leaves the file that was there, or none."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from demo import train_segmentation, training
from demo.storage import replacing
from models import create_model

OLD, NEW = b"old", b"new, and longer"


@pytest.mark.parametrize("content", [None, OLD])
def test_interrupted_writing_leaves_what_was_there(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    with suppress(KeyboardInterrupt), replacing(file) as half:
        half.write(NEW[:3])
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else ["file"])
    assert content is None or file.read_bytes() == content


def test_a_whole_file_takes_the_place(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    for content in (OLD, NEW):
        with replacing(file) as whole:
            whole.write(content)
        assert file.read_bytes() == content
    assert list(file.parent.iterdir()) == [file]


def test_a_killed_process_leaves_nothing_that_could_be_taken_for_the_file(tmp_path: Path) -> None:
    file = tmp_path / "network.safetensors"
    file.write_bytes(OLD)
    code = (
        "import os, signal, sys; from pathlib import Path; from demo.storage import replacing\n"
        "with replacing(Path(sys.argv[1])) as half:\n"
        "    half.write(b'new'); half.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(file)], cwd=Path(__file__).parents[2], check=False)
    assert run.returncode == -signal.SIGKILL
    assert file.read_bytes() == OLD
    assert len(os.listdir(tmp_path)) == 2
    assert list(tmp_path.glob("*.safetensors")) == [file]


def test_interrupted_keeping_of_scenes_is_made_good_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.savez

    def interrupted(file: object, **arrays: np.ndarray) -> None:
        save(file, masks=arrays["masks"])
        raise KeyboardInterrupt

    monkeypatch.setattr(train_segmentation, "DATA_FOLDER", tmp_path)
    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_segmentation.load_examples(seed=5, count=2)
    monkeypatch.setattr(np, "savez", save)
    made = train_segmentation.load_examples(seed=5, count=2)
    kept = train_segmentation.load_examples(seed=5, count=2)
    for one, other in zip(made, kept, strict=True):
        assert len(one) == 2
        assert np.array_equal(one, other)


def test_interrupted_training_leaves_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "WEIGHTS_FOLDER", tmp_path)
    network = create_model("smlpnet_tiny_shapes")
    file = training.save_weights(network)
    before = file.read_bytes()
    state = network.state_dict()
    assert all((value == state[key]).all() for key, value in load_file(file).items())

    def interrupted(_tensors: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        training.save_weights(network)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
