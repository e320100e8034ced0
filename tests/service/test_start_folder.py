"""What lies in the folder that a server is started in is none of its code."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from demo.local_server import free_port
from tests.server import ROOT, RunningServer, link_models, wait_until_ready

CLIP = (ROOT / "demo/media/sample.mp4").read_bytes()


@pytest.mark.parametrize("processes", [1, 2])
def test_modules_in_the_folder_of_the_start_are_not_run(tmp_path: Path, processes: int) -> None:
    folder, log, port = tmp_path / "start", tmp_path / "server.log", free_port()
    (folder / "service").mkdir(parents=True)
    for module in ("signal.py", "numpy.py", "service/__init__.py"):
        (folder / module).write_text("raise SystemExit('code of the folder')")
    with log.open("wb") as output:
        process = subprocess.Popen(
            # As the installed command, which takes nothing from that folder itself.
            [sys.executable, "-P", "-m", "service.cli", "serve", "--processes", str(processes), "--port", str(port)],
            cwd=folder,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "CLIPSERVE_REPOSITORY": str(link_models(tmp_path)),
                "CLIPSERVE_DECODE_WORKERS": "1",
                "CLIPSERVE_DRAIN_DELAY": "0",
            },
            stdout=output,
            stderr=output,
        )
    server = RunningServer(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_until_ready(server)
        assert httpx.post(f"{server.url}/v1/classify", content=CLIP, timeout=60).status_code == 200
    finally:
        process.terminate()
        process.wait(60)
    assert "code of the folder" not in log.read_text()


def test_doctor_runs_no_modules_of_the_folder_of_the_start(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('code of the folder')")
    command = [sys.executable, "-P", "-m", "service.cli", "doctor", "--repository", str(link_models(tmp_path))]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "code of the folder" not in ended.stdout + ended.stderr
    assert "runs fp32" in ended.stdout
