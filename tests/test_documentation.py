"""What the README and docs/ say is there is there, and what they show runs."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydantic import BaseModel

from models import list_models
from service import manifest
from service.api.classify import ClassificationBody, PredictionBody
from service.api.media import TimingBody
from service.api.models import ModelDetails, VersionBody
from service.api.segment import MaskBody, RunLengths, SegmentationBody, SegmentBody
from service.errors import ServiceError
from service.media.formats import ALL_FORMATS, ALLOWED_CODECS
from tests.command import clipserve
from tests.server import ROOT, RunningServer, serving
from tests.service.test_frames import ENCODINGS

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Its other Python blocks have tests of their own, or need an admin key.
WITH_CLIENTS = [ROOT / "README.md", ROOT / "docs/classification.md", ROOT / "docs/segmentation.md"]
ADDRESS = "http://127.0.0.1:8000"
# What Starlette refuses by itself has its phrase as code.
OF_THE_FRAMEWORK = {"not_found": 404, "method_not_allowed": 405}
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in _FENCED.findall(page.read_text()) if name == language]


def indented_lines(page: Path) -> list[str]:
    """Return the lines of the page's indented blocks, those that are continued joined, without comments."""
    text = _FENCED.sub("", page.read_text()).replace("\\\n", " ")
    return [re.sub(r"\s#.*", "", line.strip()) for line in text.splitlines() if line.startswith("    ")]


def code_of(page: Path) -> str:
    """Return what the page shows as code: a command may begin in one line of a paragraph and end in the next."""
    spans = re.findall(r"`([^`]+)`", _FENCED.sub("", page.read_text()))
    return "\n".join([*(" ".join(span.split()) for span in spans), *indented_lines(page)])


def anchors(page: Path) -> set[str]:
    """Return the names by which the page's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_named_verbs_exist() -> None:
    there = set(re.findall(r"^    (\w+) {2,}\w", clipserve("--help").stdout, re.MULTILINE))
    assert {"serve", "export"} <= there
    for page in PAGES:
        assert set(re.findall(r"\bclipserve ([a-z]+)", code_of(page))) <= there, page.name


def test_named_targets_exist() -> None:
    there = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= there
    for page in PAGES:
        named = " ".join(re.findall(r"(?:^|[^\w.])make((?: [a-z][a-z-]+)+)", code_of(page), re.MULTILINE)).split()
        assert set(named) <= there, page.name


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_sections_that_are_referred_to_exist() -> None:
    for page in PAGES:
        for file, title in re.findall(r"\]\(([\w/.]+\.md)\),\s+\"([^\"]+)\"", page.read_text()):
            headings = re.findall(r"^#+ (.+)$", (page.parent / file).read_text(), re.MULTILINE)
            assert title in headings, f"{page.name}: {file}, {title}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the commands find the demo's media, and to which they may write."""
    (tmp_path / "demo").symlink_to(ROOT / "demo")
    return tmp_path


def curl_commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for line in indented_lines(page):
            if line.startswith("curl ") and ADDRESS in line:
                yield page.name, line


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_every_curl_command_is_answered_with_200(server: RunningServer, folder: Path) -> None:
    commands = list(curl_commands())
    assert {"README.md", "classification.md", "segmentation.md"} <= {page for page, _ in commands}
    for page, line in commands:
        command = shlex.split(line.replace(ADDRESS, server.url))
        run = subprocess.run([*command, "-sS", "-w", "\n%{http_code}"], cwd=folder, capture_output=True, check=False)
        assert run.stdout.endswith(b"\n200"), f"{page}: {line}: {run.stderr!r} {run.stdout[-300:]!r}"


def test_every_python_client_runs(server: RunningServer, folder: Path) -> None:
    for page in WITH_CLIENTS:
        for code in blocks(page, "python"):
            run_python(code.replace(ADDRESS, server.url), folder)


def run_python(code: str, folder: Path) -> None:
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{code}\n{run.stderr}"


def test_every_error_code_is_listed(server: RunningServer) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    own = {kind.code: kind.status for kind in service_errors(ServiceError)}
    assert sorted((code, int(status)) for code, status in rows) == sorted((own | OF_THE_FRAMEWORK).items())
    for method, path in (("GET", "/v1/nothing"), ("PUT", "/v1/classify")):
        problem = httpx.request(method, server.url + path).json()
        assert OF_THE_FRAMEWORK[problem["code"]] == problem["status"]


def service_errors(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from service_errors(subclass)


def picture(level: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (160, 120), (level,) * 3).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("maker", [0, 1], ids=["onnx_helper", "torch"])
def test_artefact_that_is_written_by_hand_is_served(tmp_path: Path, maker: int) -> None:
    page = ROOT / "docs/artefact.md"
    *make_files, fill_in_digests = blocks(page, "python")
    (text,) = blocks(page, "json")
    run_python(make_files[maker], tmp_path)
    (tmp_path / "my_models/brightness/1/manifest.json").write_text(text)
    run_python(fill_in_digests, tmp_path)
    with serving(tmp_path, repository=tmp_path / "my_models") as server:
        for content, expected in ((picture(20), "dark"), (picture(230), "bright")):
            answer = httpx.post(f"{server.url}/v1/classify", content=content, timeout=60)
            assert answer.json()["predictions"][0]["label"] == expected
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        answer = httpx.post(f"{server.url}/v1/models/brightness/classify", content=clip, timeout=60)
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["views"][0]["frames"]) == 8


def test_network_is_fine_tuned_exported_and_served(folder: Path) -> None:
    page = ROOT / "docs/fine_tuning.md"
    train, other_weights = blocks(page, "python")
    run_python(train, folder)
    run_python(other_weights, folder)
    name_classes, export, _ = indented_lines(page)
    subprocess.run(name_classes, cwd=folder, shell=True, check=True)
    run_python(f"import sys; from service.cli import main; sys.exit(main({shlex.split(export)[1:]}))", folder)
    names = (folder / "my_classes.txt").read_text().splitlines()
    with serving(folder, repository=folder / "my_models") as server:
        clip = (ROOT / "demo/media/sample.mp4").read_bytes()
        answer = httpx.post(f"{server.url}/v1/classify", content=clip, timeout=60).json()
    assert {prediction["label"] for prediction in answer["predictions"]} == set(names)


def test_every_field_of_the_manifest_is_described() -> None:
    page = (ROOT / "docs/artefact.md").read_text()
    kinds = [manifest.ClassifierManifest, manifest.SegmenterManifest, manifest.Precision, manifest.Verification]
    kinds += [manifest.ClipFigures, manifest.Checkpoint, manifest.TensorSpec, manifest.Preprocessing]
    kinds += [manifest.WholePicture, manifest.Sampling, manifest.Views]
    described = page.partition("## The manifest, field by field")[2]
    for kind in kinds:
        for field in kind.model_fields:
            assert f"`{field}`" in described, f"{kind.__name__}.{field}"


def test_every_field_of_the_answers_is_described() -> None:
    models: list[type[BaseModel]] = [ModelDetails, VersionBody]
    masks: list[type[BaseModel]] = [SegmentationBody, MaskBody, SegmentBody, RunLengths]
    labels: list[type[BaseModel]] = [ClassificationBody, PredictionBody, TimingBody]
    for name, kinds in (("repository", models), ("segmentation", masks), ("classification", labels)):
        page = (ROOT / f"docs/{name}.md").read_text()
        for kind in kinds:
            for field in kind.model_fields:
                assert re.search(rf"^\|.*`(\w+\[\]\.)?{field}`", page, re.MULTILINE), f"{name}: {kind.__name__}.{field}"


def test_readme_lists_the_formats_and_codecs_that_are_taken() -> None:
    rows = dict(re.findall(r"^\| (videos|codecs|pictures) \| (.+) \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    named = {row: set(re.findall(r"`(\w+)`", text)) for row, text in rows.items()}
    assert named["videos"] == {known.name for known in ALL_FORMATS if known.kind == "video"}
    assert named["pictures"] == {known.name for known in ALL_FORMATS if known.kind == "image"}
    # The others are further decoders of the same codecs, or codecs of pictures.
    others = {"libdav1d", "libvpx", "libvpx-vp9", "gif", "png", "apng", "webp", "bmp"}
    assert named["codecs"] == set(ALLOWED_CODECS) - others


def test_readme_counts_the_registered_names() -> None:
    page = (ROOT / "README.md").read_text()
    table = page.partition("| registered names |\n| --- | --- | --- |\n")[2].partition("\n\n")[0]
    counts = [int(number) for row in table.splitlines() for number in re.findall(r"\d+", row.split("|")[3])]
    assert sum(counts) == len(list_models())
    assert f"lists all {len(list_models())}" in page


def test_page_of_engines_lists_every_kind_of_network() -> None:
    # Here, because it needs TensorRT-RTX when it is imported.
    from tests.export.test_tensorrt_engines import SHORT

    page = (ROOT / "docs/engines.md").read_text()
    rows = re.findall(r"^\| .* \| (`.*) \|$", page, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(SHORT)
    assert f"{len(SHORT)} such kinds" in page


def test_readme_counts_what_frames_and_networks_are_compared_with() -> None:
    page = (ROOT / "README.md").read_text()
    assert f"on {len(ENCODINGS)} encodings" in page
    sources = [json.loads(file.read_text())["source"] for file in (ROOT / "tests/golden").glob("*/*.json")]
    of_authors = sum(not source.startswith("own build") for source in sources)
    assert f"{of_authors} golden files hold outputs of the authors' code" in page
