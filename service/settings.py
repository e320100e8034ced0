"""All settings of the server, what each may be, and what it is when nobody says; service.configuration reads them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from service.logs import LogFormat
from service.manifest import PrecisionName
from service.tracing import check_installed

MEBIBYTE = 1 << 20
# Type of the error of a value that is less than another setting's, `other` in the error's context.
LESS_THAN_ANOTHER = "less_than_another"


def default_cache() -> Path:
    """Return the folder of the XDG base directory specification for what can be made again."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "clipserve"


def _json_like(example: str, words: tuple[str, ...] = ()) -> BeforeValidator:
    """Return what reads a text as JSON, but for some words, and shows the example when it is none."""

    def read(value: object) -> object:
        if not isinstance(value, str) or value in words:
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON ({error}): write it as {example}") from error

    return BeforeValidator(read)


def _matching(pattern: str, form: str) -> AfterValidator:
    """Return what refuses a text that does not match, and says which form it should have."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"should be {form}")
        return text

    return AfterValidator(check)


def _at_least(other: str, value: float, info: ValidationInfo, why: str) -> None:
    """Refuse a value that is less than that of another setting, which was read before it."""
    least = info.data.get(other, value)
    if value < least:
        context = {"other": other, "least": least, "why": why}
        raise PydanticCustomError(LESS_THAN_ANOTHER, "less than {other}={least}, {why}", context)


# Of the versions of a model that lie in the repository.
VersionChoice = Literal["latest", "all"] | tuple[Annotated[int, Field(gt=0)], ...]

RuntimeChoice = Literal["onnxruntime", "openvino", "auto", "cuda", "tensorrt", "tensorrt_rtx"]


class ModelSettings(BaseModel):
    """What may be set for one model by itself; None: as for all. The meaning and limits are those of `Settings`.

    Attributes:
        default_version: Behind the paths without a version, and served whatever `versions` says; None: the highest that
            is ready.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    versions: VersionChoice | None = None
    default_version: int | None = Field(default=None, gt=0)

    request_timeout: float | None = Field(default=None, gt=0)
    runtime_timeout: float | None = Field(default=None, gt=0)
    max_batch_size: int | None = Field(default=None, gt=0)
    batch_sizes: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    max_queue_delay: float | None = Field(default=None, ge=0)
    max_queue_size: int | None = Field(default=None, gt=0)
    instances: int | None = Field(default=None, gt=0)
    runtime: RuntimeChoice | None = None
    precision: PrecisionName | None = None


class ApiKey(BaseModel):
    """A key that a client may show, kept as its digest: who reads the configuration cannot use it.

    Keys are 256 random bits (service.key_command), so there is nothing to guess, and one round of SHA-256 keeps them as
    well as a slow hash would; a slow one, made for passwords, would cost every request its time.

    Attributes:
        name: What the log calls the client.
        sha256: Of the key as the client sends it, hexadecimal.
        admin: Whether the key may change what is served.
        requests_per_second: How many requests it may make in the long run; None: any number.
        burst: How many it may make at once after a pause; None: what one second allows, at least one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, _matching(r"[A-Za-z0-9._-]{1,64}", "1 to 64 letters, digits, dots, - and _")]
    sha256: Annotated[
        str,
        _matching(r"[0-9a-fA-F]{64}", "64 hexadecimal digits, which `clipserve key NAME` prints"),
        AfterValidator(str.lower),
    ]
    admin: bool = False
    requests_per_second: float | None = Field(default=None, gt=0)
    burst: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_rate_with_burst(self) -> Self:
        if self.burst is not None and self.requests_per_second is None:
            raise ValueError(f"burst={self.burst} says nothing without requests_per_second: give both")
        return self


def _distinct_keys(keys: tuple[ApiKey, ...]) -> tuple[ApiKey, ...]:
    _check_distinct("name", [key.name for key in keys])
    _check_distinct("sha256", [key.sha256 for key in keys])
    return keys


def _check_distinct(what: str, values: Sequence[Hashable]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"two keys have the same {what}: each key needs its own")


# As browsers write it: no path, not even a slash, and no capital letters.
_ORIGIN = re.compile(r"\*|https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError(
            "not an origin: write it as a browser does, https://app.example or http://127.0.0.1:3000, or *"
        )
    return text


ApiKeys = Annotated[tuple[ApiKey, ...], AfterValidator(_distinct_keys)]
Origin = Annotated[str, AfterValidator(_origin)]


class Settings(BaseSettings):
    """Every setting has a default that is safe on a small machine."""

    model_config = SettingsConfigDict(env_prefix="CLIPSERVE_", frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the names are the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take given values alone: a process that is handed its settings must not mix in what it finds itself."""
        return (init_settings,)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    processes: int = Field(default=1, gt=0, description="server processes, each with its own models and decode workers")
    repository: Path = Field(default=Path("model_repository"), description="folder with the exported models")
    default_model: Annotated[str, _matching(r"[^/]+(/[1-9][0-9]*)?", "name or name/version")] | None = Field(
        default=None,
        description="model behind /v1/classify or /v1/segment, or a version of it (name/1); the first by name that can "
        "when not given",
    )
    versions: Annotated[VersionChoice, NoDecode, _json_like("[1, 2], or say latest or all", ("latest", "all"))] = Field(
        default="latest", description="versions of each model that are served: latest, all, or a list as JSON ([1, 2])"
    )
    watch_interval: float = Field(
        default=0.0, ge=0, description="seconds between looks at the repository for what is new or gone; 0: never"
    )

    log_format: LogFormat = Field(default="text", description="lines of the log: text or json")
    access_log: bool = Field(default=False, description="whether every answer gets a line in the log")
    tracing: Annotated[bool, AfterValidator(check_installed)] = Field(
        default=False, description="whether requests are traced by OpenTelemetry; OTEL_* variables say where spans go"
    )

    api_keys: Annotated[ApiKeys, NoDecode, _json_like('[{"name": "camera-7", "sha256": "..."}]')] = Field(
        default=(),
        description="keys that clients may show, as JSON; anybody may ask, and nobody administer, when empty",
    )
    cors_origins: Annotated[tuple[Origin, ...], NoDecode, _json_like('["https://app.example"]')] = Field(
        default=(), description='sites whose pages may call the server, as JSON (["https://app.example"])'
    )

    max_body_bytes: int = Field(default=512 * MEBIBYTE, gt=0, description="largest upload")
    max_json_bytes: int = Field(
        default=4 * MEBIBYTE, gt=0, description="JSON of one inference request or answer under /v2"
    )
    max_upload_memory_bytes: int = Field(
        default=2048 * MEBIBYTE, gt=0, description="all uploads held at the same time; at least max_body_bytes"
    )
    request_timeout: float = Field(default=60.0, gt=0, description="seconds until a request is given up (504)")
    head_timeout: float = Field(default=10.0, gt=0, description="seconds for the request line and headers to come")
    max_head_bytes: int = Field(default=16384, ge=1024, description="request line and headers together")
    upload_idle_timeout: float = Field(
        default=10.0, gt=0, description="seconds without a byte until an upload is given up (408)"
    )
    answer_idle_timeout: float = Field(
        default=30.0, gt=0, description="seconds in which a client must take 64 KiB of its answer, or what is left"
    )
    keep_alive_timeout: float = Field(default=65.0, gt=0, description="seconds that an idle connection is kept")
    drain_delay: float = Field(
        default=5.0, ge=0, description="seconds from SIGTERM on that the port stays open, not ready and refusing work"
    )
    drain_timeout: float = Field(
        default=30.0,
        ge=0,
        description="seconds from the signal to stop on that accepted requests get to finish; at least drain_delay",
    )

    decode_workers: int = Field(
        default=0, ge=0, description="decode processes of a server process; 0: one a core, shared by the processes"
    )
    decode_timeout: float = Field(default=15.0, gt=0, description="seconds that decoding one upload may take")
    decode_cpu_seconds: int = Field(
        default=10, gt=0, description="processor time that decoding one upload may take, whole seconds"
    )
    decode_memory_bytes: int = Field(default=2048 * MEBIBYTE, gt=0, description="address space of a decode process")
    sandbox: Literal["auto", "required"] = Field(
        default="auto",
        description="decode processes whose system calls cannot be filtered serve (auto) or stop the start (required)",
    )
    max_waiting_uploads: int = Field(default=512, ge=0, description="uploads that may wait for a decode process")
    max_pixels: int = Field(default=50_000_000, gt=0, description="pixels of one frame")
    max_frames: int = Field(default=60_000, gt=0, description="frames in a video")
    max_seconds: float = Field(default=3600.0, gt=0, description="length of a video")
    max_streams: int = Field(default=16, gt=0, description="streams in a container")
    max_views: int = Field(default=30, gt=0, description="clips times crops of one request")
    max_segmented_frames: int = Field(default=64, gt=0, description="frames of one video that are segmented")
    max_segmented_pixels: int = Field(default=160_000_000, gt=0, description="pixels of all pictures of one request")
    max_picture_memory_bytes: int = Field(
        default=2048 * MEBIBYTE,
        gt=0,
        description="pictures, views, logits, masks and drawn answers of all requests at the same time",
    )
    max_windows: int = Field(default=512, gt=0, description="windows that one request's pictures are segmented in")

    max_batch_size: int = Field(default=8, gt=0, description="views that run together")
    batch_sizes: Annotated[tuple[Annotated[int, Field(gt=0)], ...], NoDecode, _json_like("[1, 4]")] = Field(
        default=(), description="sizes that a smaller batch is filled up to, as JSON ([1, 4]); any size when empty"
    )
    max_queue_delay: float = Field(
        default=0.002, ge=0, description="seconds that a batch waits to be filled by requests on their way"
    )
    max_queue_size: int = Field(default=1024, gt=0, description="views that may wait for a batch, a model")
    instances: int = Field(default=1, gt=0, description="copies of a model that run batches side by side")
    runtime_threads: int = Field(
        default=0,
        ge=0,
        description="threads of one run; 0: one a core, of which several server processes have a share each",
    )
    runtime_timeout: float = Field(
        default=60.0, gt=0, description="seconds after which a run that has not returned makes its model not ready"
    )
    runtime: RuntimeChoice = Field(
        default="onnxruntime",
        description="what runs the models: onnxruntime or openvino on the CPU, auto measures both at start and takes "
        "the faster; on an NVIDIA GPU cuda (ONNX Runtime), tensorrt or tensorrt_rtx",
    )
    gpu_memory_bytes: int = Field(
        default=0, ge=0, description="GPU memory of a model (cuda) or of a layer's workspace (TensorRT); 0: no limit"
    )
    precision: PrecisionName = Field(default="fp32", description="which of a model's files is served")
    cache: Path = Field(
        default_factory=default_cache, description="folder for measurements and engines, which can be made again"
    )
    models: Annotated[dict[str, ModelSettings], NoDecode, _json_like('{"name": {"max_batch_size": 4}}')] = Field(
        default={},
        description='other values for single models, as JSON: {"name": {"max_batch_size": 4}}; possible are '
        + ", ".join(ModelSettings.__annotations__),
    )

    @field_validator("max_upload_memory_bytes")
    @classmethod
    def _holds_one_upload(cls, value: int, info: ValidationInfo) -> int:
        _at_least("max_body_bytes", value, info, "and an upload of that size could never be held")
        return value

    @field_validator("drain_timeout")
    @classmethod
    def _outlasts_delay(cls, value: float, info: ValidationInfo) -> float:
        _at_least("drain_delay", value, info, "which is a part of it")
        return value

    def of_model(self, name: str) -> Settings:
        """Return the settings as they are for one model."""
        own = self.models.get(name, ModelSettings())
        return self.model_copy(update=own.model_dump(exclude_none=True, exclude={"default_version"}))

    def default_version_of(self, name: str) -> int | None:
        """Return the version of a model that requests without one get; None: the highest that is ready."""
        return self.models.get(name, ModelSettings()).default_version
