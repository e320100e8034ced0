"""Serving a part of the repository, and what is the default while the models are loaded, on a real server."""

import json
from pathlib import Path

import httpx
import pytest

from tests.classifier import write_classifier
from tests.command import clipserve, finding
from tests.keys import bearer, entry, setting
from tests.server import RunningServer, hold_at_begin, is_alive, serving, starting

ONE = {"versions": "[]", "models": json.dumps({"b": {"versions": "latest"}})}
# The server holds the load of model `b`.
HELD_MODEL = """
import pathlib, sys, time
if "serve" in sys.orig_argv:
    import service.repository.loading as loading
    load = loading.Loader._load
    def held(self, folder):
        while folder.parent.name == "b" and not pathlib.Path({!r}).exists():
            time.sleep(0.05)
        return load(self, folder)
    loading.Loader._load = held
"""


def repository(folder: Path) -> Path:
    for name in "ab":
        write_classifier(folder / "models", name, 1)
    return folder / "models"


def models(server: RunningServer) -> dict[str, bool]:
    """Return the models that are listed, each with whether it is the default."""
    return {model["name"]: model["default"] for model in httpx.get(f"{server.url}/v1/models").json()["models"]}


def test_models_of_which_no_version_is_chosen_are_not_served_but_can_be_loaded(tmp_path: Path) -> None:
    keys, headers = setting(entry("admin", "the-key", admin=True)), bearer("the-key")
    with serving(tmp_path, repository=repository(tmp_path), api_keys=keys, decode_workers=1, **ONE) as server:
        listed = httpx.get(f"{server.url}/v1/models", headers=headers).json()
        assert [model["name"] for model in listed["models"]] == ["b"]
        (other,) = listed["unavailable"]
        (version,) = other["versions"]
        assert (other["name"], version["state"], version["reason"]) == (
            "a",
            "UNAVAILABLE",
            "not chosen: `versions` is []",
        )
        refused = httpx.post(f"{server.url}/v2/repository/models/a/load", headers=headers)
        assert refused.status_code == 400
        assert "the settings choose no version of a (`versions` is [])" in refused.json()["error"]
        assert "/v2/repository/models/a/versions/N/load for one of 1" in refused.json()["error"]
        loaded = httpx.post(f"{server.url}/v2/repository/models/a/versions/1/load", headers=headers, timeout=60)
        assert loaded.status_code == 200
        assert httpx.get(f"{server.url}/v2/models/a/ready", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"CLIPSERVE_VERSIONS": "[]"}, "`versions` is [], so that nothing is served of what is in "),
        (
            {"CLIPSERVE_MODELS": '{"a": {"versions": []}}', "CLIPSERVE_DEFAULT_MODEL": "a"},
            "default model 'a' is not served, since `versions` is [] for it; there are b",
        ),
    ],
)
def test_nothing_to_serve_stops_the_start(tmp_path: Path, settings: dict[str, str], complaint: str) -> None:
    folder = str(repository(tmp_path))
    run = clipserve("serve", "--repository", folder, "--port", "0", **settings)
    assert run.returncode == 1
    assert f"cannot start: {complaint}" in run.stderr
    assert "Traceback" not in run.stderr
    assert complaint in finding(clipserve("doctor", "--repository", folder, **settings), "models")


def test_no_other_model_is_the_default_while_the_one_that_is_named_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = hold_at_begin(tmp_path, monkeypatch, HELD_MODEL)
    with starting(tmp_path, repository=repository(tmp_path), default_model="b", decode_workers=1) as server:
        server.wait_for(lambda: is_alive(server) and models(server))
        assert models(server) == {"a": False}
        may_go_on.touch()
        server.wait_for(lambda: models(server) == {"a": False, "b": True})
