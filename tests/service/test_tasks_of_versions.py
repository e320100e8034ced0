"""Versions of one name that do different things: one path without a version could not ask both."""

import json
import shutil
from pathlib import Path

import httpx

from tests.classifier import write_classifier
from tests.command import clipserve
from tests.segmenter import NAME, write_segmenter
from tests.server import ROOT, serving

PICTURE = (ROOT / "demo/media/sample.jpg").read_bytes()


def test_version_of_another_task_is_refused(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    write_segmenter(tmp_path)
    shutil.copytree(tmp_path / NAME / "1", repository / "m/2")
    manifest = repository / "m/2/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "m", "version": "2"}))
    write_classifier(repository, "m", 1)
    with serving(tmp_path, repository=repository, versions="all", decode_workers=1) as server:
        (model,) = httpx.get(f"{server.url}/v1/models").json()["models"]
        classifies, segments = model["versions"]
        assert (classifies["state"], segments["state"]) == ("UNAVAILABLE", "READY")
        reason = "m/1 is for image_classification, and m/2, which is served, for image_segmentation"
        assert reason in classifies["reason"]
        assert httpx.post(f"{server.url}/v1/segment", content=PICTURE, timeout=60).status_code == 200
        refused = httpx.post(f"{server.url}/v1/classify", content=PICTURE, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_model")
    # Nor does a server start without a version that it is to have.
    options = ["--repository", str(repository), "--versions", "all", "--models", '{"m": {"default_version": 1}}']
    ended = clipserve("serve", "--port", "0", *options)
    assert ended.returncode == 1
    assert reason in ended.stderr
    examined = clipserve("doctor", *options)
    assert examined.returncode == 1
    assert f"to mend:\n  m/1: {reason}" in examined.stdout
