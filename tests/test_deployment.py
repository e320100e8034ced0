"""Dockerfile, compose file and deployment page: what can be checked without an engine, and one test with one."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from fastapi.routing import iter_route_contexts

from service.app import create_app
from service.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def read_stages() -> dict[str, list[tuple[str, str]]]:
    """Return instruction and argument of every line of every stage, the FROM line included."""
    stages: dict[str, list[tuple[str, str]]] = {}
    lines = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", "").splitlines()
    for line in filter(None, lines):
        instruction, argument = line.split(maxsplit=1)
        if instruction == "FROM":
            stages[argument.split(" AS ")[1]] = []
        stages[next(reversed(stages))].append((instruction, argument))
    return stages


STAGES = read_stages()


def arguments(stage: str, instruction: str) -> list[str]:
    return [argument for found, argument in STAGES[stage] if found == instruction]


def inherited(stage: str, instruction: str) -> list[str]:
    """Return the arguments in the stage, or in the nearest of those that it is made from."""
    parent = arguments(stage, "FROM")[0].split(" AS ")[0]
    return arguments(stage, instruction) or (inherited(parent, instruction) if parent in STAGES else [])


def built_from(stage: str) -> set[str]:
    """Return the stage and all stages that something in it comes from."""
    names = {stage}
    parent = arguments(stage, "FROM")[0].split(" AS ")[0]
    copied = [re.search(r"--from=(\S+)", argument) for argument in arguments(stage, "COPY")]
    for name in (parent, *(match[1] for match in copied if match)):
        if name in STAGES:
            names |= built_from(name)
    return names


def test_builds_need_no_registry_but_the_base_image() -> None:
    assert not re.search(r"^#\s*syntax\s*=", DOCKERFILE, re.MULTILINE)
    assert {argument.split(" AS ")[0] for stage in STAGES for argument in arguments(stage, "FROM")} - set(STAGES) == {
        "python:3.11-slim-bookworm"
    }
    assert re.findall(r"https?://([\w.]+)", DOCKERFILE) == ["127.0.0.1"]


def test_serve_is_the_default_target() -> None:
    assert next(reversed(STAGES)) == "serve"
    for stage in ("serve", "serve-gpu"):
        assert inherited(stage, "CMD") == ['["clipserve", "serve"]']
        assert inherited(stage, "EXPOSE") == ["8000"]
        assert inherited(stage, "STOPSIGNAL") == ["SIGTERM"]


@pytest.mark.parametrize("stage", ["serve", "serve-gpu", "export", "loadtest"])
def test_images_do_not_run_as_root(stage: str) -> None:
    user = inherited(stage, "USER")[-1]
    assert int(user.split(":")[0]) > 0


@pytest.mark.parametrize(("image", "extra"), [("serve", "cpu.txt"), ("serve-gpu", "gpu.txt")])
def test_serve_installs_the_serving_dependencies_alone(image: str, extra: str) -> None:
    commands = [argument for stage in built_from(image) for argument in arguments(stage, "RUN")]
    installs = [command for command in commands if "pip install" in command]
    assert installs
    assert {name for command in installs for name in re.findall(r"-r (\S+)", command)} == {"serve.txt", extra}
    assert all("-c constraints.txt" in command or "--no-deps" in command for command in installs)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    serving = project["dependencies"] + extras[extra.removesuffix(".txt")]
    assert not any(dependency.startswith("torch") for dependency in serving)
    # Two distributions of ONNX Runtime in one folder break each other.
    assert len([dependency for dependency in serving if dependency.startswith("onnxruntime")]) == 1
    assert any(dependency.startswith("torch==") for dependency in project["optional-dependencies"]["export"])


def test_final_images_take_only_the_environment_from_the_build() -> None:
    for stage in ("serve", "serve-gpu", "export", "loadtest"):
        assert built_from(stage) >= {f"{stage}-build", "base"}
        copied = [argument for argument in arguments(stage, "COPY") if "--from" in argument]
        assert copied == [f"--from={stage}-build /venv /venv"]
        assert arguments(stage, "FROM")[0] in (f"base AS {stage}", f"server AS {stage}")


def test_everything_that_is_copied_passes_the_ignore_file() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in STAGES:
        for argument in arguments(stage, "COPY"):
            if "--from" not in argument:
                *sources, _ = [word for word in argument.split() if not word.startswith("--")]
                assert {source.split("/")[0] for source in sources} <= kept


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """Run a server that answers `status`; yield its port and the paths it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, paths
        server.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_health_check_asks_whether_the_server_is_ready(status: int, healthy: bool) -> None:
    (check,) = inherited("serve", "HEALTHCHECK")
    python, *rest = json.loads(check.split("CMD ")[1])
    assert python == "python"
    with answering(status) as (port, paths):
        # A proxy that does not exist: the check must not use it.
        environment = {**os.environ, "CLIPSERVE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
        environment.pop("no_proxy", None)
        done = subprocess.run([sys.executable, *rest], env=environment, capture_output=True)
    assert paths == ["/readyz"]
    assert (done.returncode == 0) == healthy


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_serve_waits_for_export_and_reads_its_volume() -> None:
    serve = SERVICES["serve"]
    assert serve["depends_on"] == {"export": {"condition": "service_completed_successfully"}}
    assert SERVICES["export"]["volumes"] == ["models:/models"]
    assert serve["volumes"] == ["models:/models:ro"]
    assert serve["ports"] == ["127.0.0.1:${PORT:-8000}:8000"]


def test_second_start_exports_nothing_again() -> None:
    *names, option, weights, out, folder, resume = SERVICES["export"]["command"]
    assert (option, out, folder, resume) == ("--checkpoint", "--out", "/models", "--resume")
    assert names
    for name in names:
        assert (ROOT / weights / f"{name}.safetensors").is_file()


def test_serve_is_given_time_to_drain() -> None:
    assert float(SERVICES["serve"]["stop_grace_period"].removesuffix("s")) > Settings().drain_timeout


def test_gpu_is_used_only_when_asked_for() -> None:
    service = SERVICES["serve-gpu"]
    assert service["profiles"] == ["gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    # Engines outlive the container, in a volume that is the server's alone.
    cache = dict(word.split("=") for word in " ".join(arguments("serve-gpu", "ENV")).split())["CLIPSERVE_CACHE"]
    assert service["volumes"] == ["models:/models:ro", f"engines:{cache}"]
    assert any("--mode=700" in command and command.endswith(cache) for command in arguments("serve-gpu", "RUN"))


def test_load_test_starts_only_when_asked_for() -> None:
    assert SERVICES["loadtest"]["profiles"] == ["loadtest"]
    assert SERVICES["loadtest"]["depends_on"] == {"serve": {"condition": "service_healthy"}}


def test_metrics_are_scraped_only_when_asked_for() -> None:
    metrics = SERVICES["metrics"]
    assert metrics["profiles"] == ["metrics"]
    assert re.fullmatch(r"prom/prometheus:v[\d.]+", metrics["image"])
    assert all(port.startswith("127.0.0.1:") for port in metrics["ports"])
    file, place, _ = metrics["volumes"][0].split(":")
    assert f"--config.file={place}" in metrics["command"]
    (job,) = yaml.safe_load((ROOT / file).read_text())["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["serve", "serve-gpu"]
    assert set(found["names"]) <= set(SERVICES)
    assert found["port"] == Settings().port
    assert job["metrics_path"] in {route.path for route in iter_route_contexts(create_app(Settings()).routes)}


def test_deployment_page_lists_every_setting() -> None:
    listed = re.findall(r"^\| `CLIPSERVE_(\w+)` \| (.+?) \|", (ROOT / "docs/deployment.md").read_text(), re.MULTILINE)
    actual = []
    for name, field in Settings.model_fields.items():
        default = "XDG cache folder" if field.default_factory else field.default
        actual.append((name.upper(), "none" if default is None else str(default)))
    assert listed == actual


@pytest.mark.docker
@pytest.mark.timeout(2400)
def test_composition_serves_a_clip() -> None:
    subprocess.run([ROOT / "scripts/test_docker.sh"], check=True)
