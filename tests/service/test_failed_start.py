"""What the last line of a server that cannot start says of its models."""

from pathlib import Path

from tests.classifier import write_classifier
from tests.command import clipserve


def test_every_model_that_cannot_be_served_is_named(tmp_path: Path) -> None:
    for version, name in enumerate(("fine", "other_precision", "broken", "other_runtime"), 1):
        write_classifier(tmp_path, name, version)
    with (tmp_path / "broken/3/labels.txt").open("a") as file:
        file.write("one too many\n")
    own = '{"other_precision": {"precision": "int8"}, "other_runtime": {"precision": "bf16"}}'
    ended = clipserve("serve", "--repository", str(tmp_path), "--port", "0", "--models", own)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "cannot start: broken/3 cannot be served: " in last
    assert "; other_precision/2 cannot be served: " in last
    assert "other_precision/2 has no precision int8; it has fp32" in last
    assert "; other_runtime/4 cannot be served: " in last
    assert "fine" not in last


def test_what_is_wrong_with_all_models_is_said_once(tmp_path: Path) -> None:
    for version, name in enumerate(("a", "b", "c"), 1):
        write_classifier(tmp_path, name, version)
    options = ("--repository", str(tmp_path), "--port", "0", "--runtime", "cuda")
    # Where there is a GPU, it is not to be seen.
    ended = clipserve("serve", *options, CUDA_VISIBLE_DEVICES="")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "cannot start: a/1, b/2, c/3 cannot be served: runtime cuda" in last
    assert last.count("cannot be served") == 1
