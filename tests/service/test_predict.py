"""`clipserve predict` and `clipserve bench`, against a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from threading import Thread

import httpx
import pytest

from demo.local_server import free_port
from tests.command import clipserve, finding
from tests.keys import entry, setting
from tests.server import ROOT, SERVED, RunningServer, serving

MEDIA = ROOT / "demo/media"
CLASSIFIER, SEGMENTER = SERVED


def answer_of(server: RunningServer, path: str, file: str) -> dict[str, object]:
    answer: dict[str, object] = httpx.post(server.url + path, content=(MEDIA / file).read_bytes(), timeout=60).json()
    return answer


def lines_of(server: RunningServer, *arguments: str) -> list[str]:
    run = clipserve("predict", *arguments, "--url", server.url)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.splitlines()


def test_predict_names_the_classes_of_each_file_with_their_scores(server: RunningServer) -> None:
    files = [str(MEDIA / name) for name in ("sample.mp4", "sample.jpg")]
    lines = lines_of(server, *files, "--top-k", "2")
    expected = []
    for file in files:
        answer = answer_of(server, "/v1/classify?top_k=2", file)
        expected.append(f"{file}: {CLASSIFIER}/1")
        expected += [f"{100 * found['score']:.1f}%  {found['label']}" for found in answer["predictions"]]
    assert [line.strip() for line in lines] == expected
    assert len(lines) == 6


def test_predict_names_the_shares_of_the_classes_of_a_mask(server: RunningServer) -> None:
    scene, clip = (str(MEDIA / name) for name in ("scene.jpg", "sample.mp4"))
    lines = lines_of(server, scene, clip, "--model", SEGMENTER)
    expected = []
    for file in (scene, clip):
        answer = answer_of(server, "/v1/segment?output=rle", file)
        expected.append(f"{file}: {SEGMENTER}/1")
        for mask in answer["masks"]:
            if file == clip:
                expected.append(f"frame {mask['frame']}, {mask['time_seconds']:.3f} s")
            expected += [f"{100 * found['share']:.1f}%  {found['label']}" for found in mask["segments"]]
    assert [line.strip() for line in lines] == expected


def test_predict_prints_json_as_the_server_gave_it(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no picture")
    files = [MEDIA / "sample.mp4", tmp_path / "text", MEDIA / "scene.jpg"]
    for model, path in ((CLASSIFIER, f"/v1/models/{CLASSIFIER}/classify"), (SEGMENTER, "/v1/segment?output=rle")):
        run = clipserve("predict", *map(str, files), "--json", "--model", model, "--url", server.url)
        assert run.returncode == 1
        assert run.stderr.startswith(f"clipserve: {files[1]}: 415 ")
        lines = run.stdout.splitlines()
        for line, file in zip(lines, (files[0], files[2]), strict=True):
            mine, theirs = json.loads(line), answer_of(server, path, file.name)
            # Nothing else differs from request to request.
            assert mine.pop("timing_seconds").keys() == theirs.pop("timing_seconds").keys()  # type: ignore[attr-defined]
            assert mine == theirs
            assert list(mine) == list(theirs)


def test_number_of_classes_is_refused_by_its_option_where_there_are_masks(server: RunningServer) -> None:
    run = clipserve("predict", str(MEDIA / "scene.jpg"), "--top-k", "2", "--model", SEGMENTER, "--url", server.url)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == f"clipserve: --top-k is for models that classify, and {SEGMENTER} gives masks: leave it out\n"


def test_predict_goes_on_after_a_file_that_is_refused(tmp_path: Path) -> None:
    # Takes no room on the disk, and more memory than there may be for one who reads it whole.
    with (tmp_path / "large").open("wb") as large:
        large.truncate(200 << 30)
    (tmp_path / "text").write_text("no picture")
    files = [str(tmp_path / name) for name in ("large", "text", "missing", ".")]
    key = "the-key"
    with serving(tmp_path, max_body_bytes=1_000_000, api_keys=setting(entry("me", key))) as server:
        command = ("predict", *files, str(MEDIA / "sample.jpg"), "--url", server.url)
        run = clipserve(*command, CLIPSERVE_API_KEY=key)
        without_key = clipserve(*command)
        wrong_key = clipserve(*command, CLIPSERVE_API_KEY=f"{key}\n")
    assert run.returncode == 1
    assert run.stdout.startswith(f"{MEDIA / 'sample.jpg'}: {CLASSIFIER}/1\n")
    errors = run.stderr.splitlines()
    for error, file, reason in zip(
        errors,
        files,
        ["413 payload_too_large: ", "415 unsupported_media: ", "No such file or directory", "Is a directory"],
        strict=True,
    ):
        assert error.startswith(f"clipserve: {file}: {reason}")
    assert "the limit is 1000000" in errors[0]
    assert (without_key.returncode, without_key.stdout) == (1, "")
    assert "401 unauthorized: " in without_key.stderr
    assert "CLIPSERVE_API_KEY" in without_key.stderr
    assert (wrong_key.returncode, wrong_key.stdout) == (1, "")
    assert "CLIPSERVE_API_KEY is no key" in wrong_key.stderr
    assert key not in wrong_key.stderr


def test_predict_sends_a_pipe_as_it_comes(server: RunningServer, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=[(MEDIA / "sample.mp4").read_bytes()])
    writer.start()
    run = clipserve("predict", str(pipe), "--url", server.url)
    writer.join()
    assert run.returncode == 0
    assert "rotating clockwise" in run.stdout.splitlines()[1]


def test_predict_takes_the_name_that_it_prints(server: RunningServer) -> None:
    for name in (CLASSIFIER, SEGMENTER):
        first, *_ = lines_of(server, str(MEDIA / "scene.jpg"), "--model", f"{name}/1")
        assert first == f"{MEDIA / 'scene.jpg'}: {name}/1"


@pytest.mark.parametrize(
    ("verb", "url", "model", "reason"),
    [
        ("predict", "{server}", "nobody", "404 unknown_model: no model is called 'nobody'; there are "),
        ("bench", "{server}", "nobody", "404 unknown_model: no model is called 'nobody'; there are "),
        ("predict", "{server}/elsewhere", CLASSIFIER, "404 "),
        ("predict", "{server}", f"{CLASSIFIER}/9", f"404 unknown_model: {CLASSIFIER} has no version '9'; there are 1"),
        ("predict", "{server}", f"{CLASSIFIER}/", "404 "),
        ("predict", "http://127.0.0.1:{free}", CLASSIFIER, "start one with `clipserve serve`, or give --url"),
        ("bench", "http://127.0.0.1:{free}", None, "no answer from http://127.0.0.1:"),
        ("predict", "127.0.0.1:8000", None, "'127.0.0.1:8000' is not the address of a server"),
        ("predict", "http://127.0.0.1:port", None, "is not the address of a server"),
    ],
)
def test_server_that_cannot_be_asked_is_told(
    server: RunningServer, verb: str, url: str, model: str | None, reason: str
) -> None:
    address = url.format(server=server.url, free=free_port())
    options = [] if model is None else ["--model", model]
    run = clipserve(verb, str(MEDIA / "sample.jpg"), "--url", address, *options)
    assert (run.returncode, run.stdout) == (1, "")
    assert reason in run.stderr
    assert "Traceback" not in run.stderr


def bench(server: RunningServer, file: Path, callers: int = 2) -> subprocess.CompletedProcess[str]:
    return clipserve("bench", str(file), "--url", server.url, "--callers", str(callers), "--seconds", "1")


def test_bench_counts_what_the_server_answers(server: RunningServer) -> None:
    def answered() -> float:
        text = httpx.get(f"{server.url}/metrics").text
        total = re.search(r'^clipserve_requests_total\{route="/v1/classify",status="200"\} (\S+)$', text, re.MULTILINE)
        return float(total[1]) if total else 0

    before = answered()
    run = bench(server, MEDIA / "sample.jpg")
    assert (run.returncode, run.stderr) == (0, "")
    pattern = r"answers  (\d+) x 200\nclips/s  (\S+)\nlatency  p50 (\S+) s, p90 (\S+) s, p99 (\S+) s\n"
    shown = re.fullmatch(pattern, run.stdout)
    assert shown, run.stdout
    count, rate, *latencies = map(float, shown.groups())
    # Of one second; what came before and after it does not count.
    assert 0 < count == rate < answered() - before
    assert latencies == sorted(latencies)


def test_bench_counts_refusals_and_waits_as_it_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, max_waiting_uploads=0, decode_workers=1) as server:
        run = bench(server, MEDIA / "sample.mp4", callers=6)
    assert run.returncode == 0, run.stdout
    found = re.match(
        r"answers  (\d+) x 200, (\d+) x 429\nclips/s  \S+\n"
        r"refused  (\d+)% of the requests; the clients waited (\d+)% of the time, as they were told",
        run.stdout,
    )
    assert found, run.stdout
    answered, refused, percent, waited = map(int, found.groups())
    assert percent == pytest.approx(100 * refused / (answered + refused), abs=0.5)
    # Each refusal asks for a second at least, and that is as long as answers are counted.
    assert refused <= 6
    assert 0 < waited <= 100


def test_bench_sends_nothing_that_is_refused(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no picture")
    run = bench(server, tmp_path / "text")
    assert (run.returncode, run.stdout) == (1, "")
    assert "415 unsupported_media" in run.stderr


@pytest.mark.parametrize("option", [["--callers", "0"], ["--seconds", "0"], ["--seconds", "inf"]])
def test_bench_needs_callers_and_time(option: list[str]) -> None:
    run = clipserve("bench", str(MEDIA / "sample.jpg"), *option)
    assert (run.returncode, run.stdout) == (2, "")
    assert option[1] in run.stderr


def test_doctor_knows_the_key_of_clients() -> None:
    run = clipserve("doctor", CLIPSERVE_API_KEY="the-key", CLIPSERVE_API_KYE="x")
    assert "no setting is called so" in finding(run, "CLIPSERVE_API_KYE")
    assert "CLIPSERVE_API_KEY " not in run.stdout
