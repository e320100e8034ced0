"""Settings from options, environment and file, as a user gives them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import httpx
import pytest

from service.settings import Settings
from tests.command import clipserve, finding
from tests.keys import bearer, entry, setting
from tests.server import ROOT, serving


def write(folder: Path, text: str) -> Path:
    file = folder / "clipserve.toml"
    file.write_text(text)
    return file


def test_option_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        max_views = 1
        max_frames = 1
        max_seconds = 1
        batch_sizes = [1, 4]
        [models.uniformer_tiny_shapes]
        max_batch_size = 4
        """,
    )
    environment = {"CLIPSERVE_MAX_VIEWS": "2", "CLIPSERVE_MAX_FRAMES": "2", "CLIPSERVE_CONFIG": str(file)}
    run = clipserve("doctor", "--max-views", "3", **environment)
    assert finding(run, "file") == str(file)
    assert finding(run, "max_views") == "3 (option)"
    assert finding(run, "max_frames") == "2 (environment)"
    assert finding(run, "max_seconds") == "1.0 (file)"
    assert finding(run, "batch_sizes") == "[1, 4] (file)"
    assert finding(run, "models") == "{uniformer_tiny_shapes = {max_batch_size = 4}} (file)"
    assert finding(run, "max_pixels") == "50000000 (default)"


def test_settings_are_shown_as_the_file_has_them(tmp_path: Path) -> None:
    given = {
        "host": "127.0.0.1",
        "default_model": "uniformer_tiny_shapes/1",
        "cors_origins": ["https://app.example"],
        "watch_interval": 0.00001,
        "tracing": False,
        "models": {"uniformer_tiny_shapes": {"versions": [1], "batch_sizes": [1, 4], "precision": "fp32"}, "a b\\": {}},
    }
    options = [
        f"--{name.replace('_', '-')}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in given.items()
    ]
    listed = clipserve("doctor", *options).stdout.partition("\nSettings\n")[2]
    shown = dict(re.findall(r"^  (\S+) +(.+) \((?:option|default)\)$", listed, re.MULTILINE))
    for name, value in given.items():
        assert tomllib.loads(f"{name} = {shown[name]}") == {name: value}
    assert shown["versions"] == '"latest"'


def test_option_names_another_file_than_the_environment(tmp_path: Path) -> None:
    file = write(tmp_path, "max_views = 5")
    run = clipserve("doctor", "--config", str(file), CLIPSERVE_CONFIG="/no/such/file")
    assert finding(run, "max_views") == "5 (file)"


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("max_views = 0", ["max_views=0", "greater than 0"]),
        ("drain_timeout = inf", ["drain_timeout=inf", "finite"]),
        ("max_upload_memory_bytes = 9\nmax_body_bytes = 10", ["max_upload_memory_bytes=9", "max_body_bytes=10"]),
        ("drain_timeout = 2\ndrain_delay = 2.5", ["drain_timeout=2", "drain_delay=2.5"]),
        ("[models.m]\nrequest_timeout = inf", ["models.m.request_timeout=inf", "finite"]),
        ("max_veiws = 3", ["max_veiws", "did you mean max_views?"]),
        ("CLIPSERVE_PORT = 9", ["CLIPSERVE_PORT: no setting is called so; did you mean port?"]),
        ("_cli_parse_args = true", ["_cli_parse_args", "no setting is called so", "max_views", "cache"]),
        ("port = 70000\nmax_views = 'many'", ["port=70000", "65535", "max_views='many'", "integer"]),
        ("[models.m]\nmax_batch = 4", ["models.m.max_batch: ", "no setting is called so", "max_batch_size"]),
        ("[models.m]\nbananas = 1", ["models.m.bananas: ", "there are versions, default_version, request_timeout"]),
        ("[models.m]\nport = 1", ["models.m.port: ", "must stand before the first [table] of the file"]),
        ("[[api_keys]]\nrequest_timeout = 9", ["api_keys.0.request_timeout: ", "before the first [table]"]),
        ("versions = 'newest'", ["versions='newest': not JSON", "latest or all"]),
        ("default_model = 'a/b'", ["default_model='a/b': should be name or name/version"]),
        ("[[api_keys]]\nnam = 'the key itself'", ["api_keys.0.nam: ", "did you mean name?"]),
        ("max_views =", ["not TOML", "Invalid value"]),
        ("cors_origins = 'https://a.example'", ["cors_origins='https://a.example'", "not JSON"]),
        ("cors_origins = ['https://a.example/']", ["cors_origins.0='https://a.example/'", "not an origin"]),
        ("[[api_keys]]\nname = 'a'", ["api_keys.0.sha256", "required"]),
        (
            "[[api_keys]]\nname = 'a'\nsha256 = 'the key itself'",
            ["api_keys.0.sha256=(hidden)", "64 hexadecimal digits"],
        ),
        (f"[[api_keys]]\nname = 'a'\nsha256 = '{'0' * 64}'\nburst = 2", ["requests_per_second"]),
        (f"[[api_keys]]\nname = 'a'\nsha256 = '{'0' * 64}'\n" * 2, ["same name"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, complaints: list[str]) -> None:
    file = write(tmp_path, text)
    run = clipserve("serve", "--config", str(file))
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "the key itself" not in run.stderr
    for complaint in [str(file), *complaints]:
        assert complaint in run.stderr


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        (".", "Is a directory"),
        ("file/below", "Not a directory"),
        ("itself", "Too many levels of symbolic links"),
    ],
)
def test_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "itself").symlink_to("itself")
    file = tmp_path / name
    run = clipserve("serve", CLIPSERVE_CONFIG=str(file))
    assert (run.returncode, run.stderr) == (2, f"clipserve: file {file} cannot be read: {reason}\n")


def test_file_in_another_encoding_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"host = '\xe4'")
    run = clipserve("serve", "--config", str(tmp_path / "latin"))
    assert run.returncode == 2
    assert f"file {tmp_path / 'latin'} is not TOML" in run.stderr
    assert "Traceback" not in run.stderr


def test_help_says_in_groups_what_each_option_takes() -> None:
    run = clipserve("serve", "--help", COLUMNS="200")
    assert run.returncode == 0
    listed = run.stdout.partition("options:\n")[2]
    assert listed.index("\nuploads, time and connections:") < listed.index("--max-body-bytes BYTES")
    assert listed.index("--max-body-bytes BYTES") < listed.index("\ndecoding:") < listed.index("--max-pixels N ")
    for shown in (
        "--host HOST ",
        "--decode-cpu-seconds SECONDS",
        "--drain-delay SECONDS",
        "--repository FOLDER",
        "--precision {fp32,fp16,bf16,int8}",
        "--access-log [{true,false}]",
        "--cors-origins JSON",
    ):
        assert shown in listed
    offered = set(re.findall(r"^  --([a-z-]+) ", listed, re.MULTILINE))
    assert offered == {"config", *(name.replace("_", "-") for name in Settings.model_fields)}


@pytest.mark.parametrize(("given", "value"), [([], "true"), (["true"], "true"), (["false"], "false")])
def test_switch_needs_no_value(given: list[str], value: str) -> None:
    run = clipserve("doctor", "--access-log", *given)
    assert finding(run, "access_log") == f"{value} (option)"


def test_setting_may_contradict_a_default() -> None:
    run = clipserve("serve", "--max-body-bytes", "3000000000")
    assert run.returncode == 2
    assert run.stderr == (
        "clipserve: --max-body-bytes: max_body_bytes=3000000000: more than max_upload_memory_bytes=2147483648 "
        "(default), which may not be less: give both\n"
    )


def test_wrong_value_in_environment_or_option_says_so() -> None:
    run = clipserve("serve", "--max-views", "none", CLIPSERVE_PORT="70000", CLIPSERVE_API_KEYS='[{"name": "s3cret')
    assert run.returncode == 2
    assert "CLIPSERVE_PORT: port='70000': should be less than or equal to 65535" in run.stderr
    assert "CLIPSERVE_API_KEYS: api_keys=(hidden): not JSON" in run.stderr
    assert "--max-views: max_views='none': should be a valid integer" in run.stderr
    assert "s3cret" not in run.stderr


def test_variables_that_nothing_reads_are_named_at_the_start(tmp_path: Path) -> None:
    given = {
        "CLIPSERVE_MAX_BATCHSIZE": "4",
        "CLIPSERVE_ZZZ": "1",
        "CLIPSERVE_API_KEY": "s3cret",
        "CLIPSERVE_CONFIG": "",
    }
    run = clipserve("serve", "--repository", str(tmp_path / "none"), "--port", "0", **given)
    (warning,) = (line for line in run.stderr.splitlines() if " WARNING " in line)
    unread = "CLIPSERVE_MAX_BATCHSIZE (did you mean CLIPSERVE_MAX_BATCH_SIZE?), CLIPSERVE_ZZZ"
    assert warning.endswith(f": no setting is called so, and nothing reads it: {unread}")


def test_folder_that_is_not_there_is_named_in_full() -> None:
    run = clipserve("serve", "--repository", "no_such_folder", "--port", "0")
    assert run.returncode == 1
    assert f"cannot start: {ROOT / 'no_such_folder'} cannot be read: No such file or directory" in run.stderr


def test_unknown_option_is_refused_with_the_usage_of_its_verb() -> None:
    run = clipserve("serve", "--bogus", "1")
    assert run.returncode == 2
    assert run.stderr.startswith("usage: clipserve serve ")
    assert run.stderr.endswith("clipserve serve: error: unrecognized arguments: --bogus 1\n")


def test_list_that_is_no_json_is_shown_as_it_should_be() -> None:
    run = clipserve("serve", "--batch-sizes", "1,4")
    assert run.returncode == 2
    assert "--batch-sizes: batch_sizes='1,4': not JSON" in run.stderr
    assert run.stderr.endswith("write it as [1, 4]\n")


def test_port_of_a_kubernetes_service_is_recognised() -> None:
    run = clipserve("serve", CLIPSERVE_PORT="tcp://10.0.0.1:80")
    assert run.returncode == 2
    assert "CLIPSERVE_PORT: port='tcp://10.0.0.1:80': " in run.stderr
    assert "enableServiceLinks: false" in run.stderr


def test_doctor_does_not_show_keys() -> None:
    key = entry("camera-7", "a key")
    run = clipserve("doctor", CLIPSERVE_API_KEYS=setting(key))
    assert finding(run, "api_keys") == "1 (hidden) (environment)"
    assert key["sha256"] not in run.stdout + run.stderr


def test_new_key_works_in_every_process_with_the_lines_that_were_printed(tmp_path: Path) -> None:
    made = clipserve("key", "camera-7", "--requests-per-second", "1000")
    again = clipserve("key", "camera-7")
    assert (made.returncode, again.returncode) == (0, 0)
    key, another = (run.stderr.splitlines()[0] for run in (made, again))
    # 256 bits take 43 letters of 6 bits.
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", key)
    assert key != another
    assert key not in made.stdout
    # What `>>` makes of a file whose last line has no end.
    file = write(tmp_path, "max_body_bytes = 1000" + made.stdout)
    with serving(tmp_path, config=file, processes=2, decode_workers=1) as server:
        commands = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert not any(b"sha256" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in commands)
        for _ in range(8):
            # A connection each, which any of the processes takes.
            assert httpx.get(f"{server.url}/v1/models", headers=bearer(key)).status_code == 200
            assert httpx.get(f"{server.url}/v1/models", headers=bearer(another)).status_code == 401
            large = httpx.post(f"{server.url}/v1/classify", content=b"x" * 1001, headers=bearer(key))
            assert large.status_code == 413


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a b"], "name='a b': should be 1 to 64 letters"),
        (["a", "--burst", "3"], "requests_per_second"),
        (["a", "--requests-per-second", "0"], "greater"),
    ],
)
def test_key_that_could_not_be_configured_is_not_made(arguments: list[str], complaint: str) -> None:
    run = clipserve("key", *arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert complaint in run.stderr
