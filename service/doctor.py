"""`clipserve doctor`: what is here, what is missing and how to get it, and which settings are in force."""

from __future__ import annotations

import argparse
import asyncio
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version

import av

from service.configuration import Configuration, shown, unread_variables
from service.errors import InternalError, ManifestError, RuntimeLoadError
from service.listening import ListenError, bind
from service.machine import available_cores, cpu_flags, cpu_model, cpu_quota, plan_threads
from service.manifest import Manifest, read_artefact
from service.media.formats import ALL_FORMATS, ALLOWED_CODECS
from service.media.pool import DecodePool
from service.options import add_setting_options, chosen_configuration
from service.repository.artefacts import Found, find_artefacts
from service.repository.choice import check_names, pinned_versions, shown_choice, wanted_versions
from service.repository.loading import try_runtimes, warnings_about
from service.repository.versions import check_task
from service.runtimes.gpu import driver_version, find_gpu
from service.runtimes.kinds import CPU_KINDS, GPU, KINDS, RuntimeKind, clash_of_packages
from service.settings import Settings

# What makes a CPU fast at this work, by the kernel's names.
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "bf16", "i8mm")
# Of the column of names, if they are no longer: "uniformer_light_tiny_shapes/1" fits.
_NAME_WIDTH = 30


@dataclass
class Report:
    """What was found.

    Attributes:
        lines: The text for people, a heading or a finding each.
        problems: What keeps the server from starting or from taking what it should, each with its cure.
        doubts: Names of what the server starts with, though it is hardly meant.
    """

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self.lines += ["", text]

    def say(self, name: str, text: str) -> None:
        """Add a finding."""
        self.lines.append(f"  {name:<{_NAME_WIDTH}}  {text}")

    def complain(self, name: str, text: str) -> None:
        """Add a finding that is a problem."""
        self.say(name, text)
        self.problems.append(f"{name}: {text}")

    def doubt(self, name: str, text: str) -> None:
        """Add a finding that keeps the server from nothing, but should be read."""
        self.say(name, text)
        self.doubts.append(name)


class DoctorCommand:
    """`clipserve doctor`."""

    help = "show runtimes, devices, codecs, models and settings, and what is missing"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Take the options of `clipserve serve`, to examine how it would start with them."""
        add_setting_options(parser)

    def run(self, arguments: argparse.Namespace) -> int:
        """Print the report; 1 if there is a problem."""
        report = _examine(arguments)
        print("\n".join(report.lines))
        if report.problems:
            print("\n".join(["", f"{len(report.problems)} to mend:", *(f"  {problem}" for problem in report.problems)]))
            return 1
        print("", _without_problems(report), sep="\n")
        return 0


def _without_problems(report: Report) -> str:
    if not report.doubts:
        return "Nothing to mend."
    return f"The server would start, but see what is said above of {', '.join(dict.fromkeys(report.doubts))}."


def _examine(arguments: argparse.Namespace) -> Report:
    """Return the report on this machine and the server as it would start."""
    report = Report([f"clipserve {version('clipserve')}, Python {platform.python_version()}, {platform.platform()}"])
    configuration = chosen_configuration(arguments)
    if configuration.problems:
        report.heading("Settings that are wrong; the rest is told without them")
    for problem in configuration.problems:
        report.complain("setting", problem)
    settings = configuration.settings
    _examine_machine(report, settings)
    _examine_address(report, settings)
    _examine_runtimes(report, settings)
    _examine_decoding(report, settings)
    _examine_models(report, settings)
    _examine_settings(report, configuration)
    return report


def _examine_machine(report: Report, settings: Settings) -> None:
    report.heading("Machine")
    quota = cpu_quota()
    limit = "" if quota is None else f", CPU time limited to {quota:g} cores"
    report.say("CPU", f"{cpu_model()}, {available_cores()} cores for this process{limit}")
    report.say("instructions", " ".join(name for name in _INSTRUCTIONS if name in cpu_flags()) or "none that help")
    report.say("threads", str(plan_threads(settings.decode_workers, settings.runtime_threads, settings.processes)))
    report.say("NVIDIA driver", driver_version() or "none found")


def _examine_address(report: Report, settings: Settings) -> None:
    report.heading("Address")
    name = f"{settings.host} port {settings.port}"
    try:
        listeners = bind(settings.host, settings.port)
    except ListenError as error:
        if error.taken:
            # No problem: it may well be the server that is examined, which runs already.
            report.say(name, "taken: a program listens there, and no other can until it ends")
        else:
            report.complain(name, str(error))
        return
    for listener in listeners:
        listener.close()
    report.say(name, "free")


def _abilities(kind: RuntimeKind) -> str:
    """Return which precisions a runtime that is installed computes in here."""
    precisions, lack = list(kind.precisions), ""
    if kind.name == "openvino":
        from service.runtimes.openvino_cpu import has_bfloat16

        if not has_bfloat16():
            precisions.remove("bf16")
            lack = "; not bf16, for which this CPU has no instructions"
    return f"runs {', '.join(precisions)} on the {kind.device}{lack}"


def _examine_runtimes(report: Report, settings: Settings) -> None:
    report.heading("Runtimes")
    asked = {settings.runtime, *(settings.of_model(name).runtime for name in settings.models)}
    for kind in KINDS.values():
        problem = _problem(kind)
        if problem is None:
            report.say(kind.name, f"{kind.version}, {_abilities(kind)}")
        elif kind.name in asked:
            report.complain(kind.name, problem)
        else:
            report.say(kind.name, problem)
    if not any(kind.version for kind in KINDS.values()):
        report.complain("none installed", f"choose one: {CPU_KINDS['onnxruntime'].cure}, or on a GPU 'clipserve[gpu]'")
    if clash := clash_of_packages():
        report.complain("two packages", clash)
    report.say("tried on a GPU", "nothing: no part of this version has been run or measured on one (docs/gpu.md)")


def _problem(kind: RuntimeKind) -> str | None:
    """Return why a runtime cannot be used here; None if it can."""
    if kind.version is None:
        return f"not installed: {kind.cure}"
    try:
        if kind.device == GPU:
            find_gpu()
            _import_elsewhere(kind.module)
        else:
            import_module(kind.module)
    except RuntimeLoadError as error:
        return f"{kind.version} is installed, but {error}"
    except ImportError as error:
        return f"{kind.version} cannot be imported ({error}): {kind.cure}"
    return None


def _import_elsewhere(module: str) -> None:
    """Import a module in another process: libraries for GPUs may crash.

    Raises:
        ImportError: It cannot be imported.
    """
    run = subprocess.run([sys.executable, "-P", "-c", f"import {module}"], capture_output=True, text=True, check=False)  # noqa: S603
    if run.returncode:
        raise ImportError((run.stderr.strip().splitlines() or [f"status {run.returncode}"])[-1])


def _examine_decoding(report: Report, settings: Settings) -> None:
    report.heading("Decoding")
    report.say("PyAV", f"{version('av')} with FFmpeg {av.ffmpeg_version_info}")
    decoders = [name for name in ALLOWED_CODECS if _has_decoder(name)]
    report.say("decoders", ", ".join(decoders))
    report.say("containers", ", ".join(accepted.name for accepted in ALL_FORMATS))
    missing = [name for name in ALLOWED_CODECS if name not in decoders]
    missing += sorted({accepted.demuxer for accepted in ALL_FORMATS} - av.formats_available)
    if missing:
        report.complain(
            "missing", f"{', '.join(missing)}: this FFmpeg was built without; PyAV's own wheel has all (pip install av)"
        )
    try:
        unfiltered = asyncio.run(_unfiltered(settings))
    except InternalError as error:
        report.complain("sandbox", str(error))
    else:
        calls = "system calls filtered" if unfiltered is None else f"system calls are not filtered: {unfiltered}"
        report.say("sandbox", f"resource limits, {calls}")


async def _unfiltered(settings: Settings) -> str | None:
    """Start a decode worker as the server does and return why its system calls are not filtered, or None."""
    pool = DecodePool(
        workers=1,
        max_waiting=0,
        memory_bytes=settings.decode_memory_bytes,
        timeout=settings.decode_timeout,
        cpu_seconds=settings.decode_cpu_seconds,
        sandbox=settings.sandbox,
    )
    try:
        await pool.start()
        return pool.unfiltered
    finally:
        await pool.close()


def _has_decoder(name: str) -> bool:
    try:
        av.Codec(name, "r")
    except ValueError:
        return False
    return True


def _examine_models(report: Report, settings: Settings) -> None:
    report.heading(f"Models in {settings.repository.absolute()}")
    try:
        models = find_artefacts(settings.repository)
        check_names(settings, models)
    except ManifestError as error:
        report.complain("models", str(error))
        return
    threads = plan_threads(settings.decode_workers, settings.runtime_threads, settings.processes).runtime_threads
    for name, versions in models.items():
        own = settings.of_model(name)
        report.say(name, f"versions {', '.join(map(str, versions))}; served: {shown_choice(own.versions)}")
        pinned = pinned_versions(settings, name)
        served: Manifest | None = None
        # In the order of a server, which tries no older one of "latest" either once it has one.
        for number in sorted(wanted_versions(own.versions, pinned, versions), reverse=True):
            if served and own.versions == "latest" and number not in pinned:
                continue
            manifest = _examine_version(report, own, threads, f"{name}/{number}", versions[number])
            if manifest is not None and served is not None:
                _examine_task(report, manifest, served)
            served = served or manifest


def _examine_version(report: Report, settings: Settings, threads: int, name: str, found: Found) -> Manifest | None:
    """Report whether a version can be served with the settings of its model; return its manifest if it can."""
    try:
        artefact = read_artefact(found.folder)
        refusals = try_runtimes(artefact, settings, threads)
    except (ManifestError, RuntimeLoadError) as error:
        report.complain(name, str(error))
        return None
    except Exception as error:
        # The rest is told all the same.
        report.complain(name, f"{type(error).__name__}: {error}")
        return None
    able = [kind for kind, refusal in refusals.items() if refusal is None]
    if not able:
        report.complain(name, "; ".join(map(str, refusals.values())))
        return None
    manifest = artefact.manifest
    runs = f"{settings.precision} runs on {', '.join(able)}"
    report.say(name, f"{manifest.task}, {', '.join(manifest.precisions)}; {runs}")
    for kind, refusal in refusals.items():
        if refusal is not None:
            report.doubt(name, f"{kind} is passed over: {refusal}")
    for warning in warnings_about(settings, manifest):
        report.doubt(name, warning)
    return manifest


def _examine_task(report: Report, manifest: Manifest, served: Manifest) -> None:
    """Report a version that does something else than the one that is served already."""
    try:
        check_task(manifest, served)
    except ManifestError as error:
        report.complain(manifest.full_name, str(error))


def _examine_settings(report: Report, configuration: Configuration) -> None:
    report.heading("Settings")
    report.say("file", str(configuration.file or "none"))
    for name, source in configuration.sources.items():
        report.say(name, f"{shown(name, getattr(configuration.settings, name))} ({source})")
    for name, hint in unread_variables().items():
        report.say(name, "; ".join(filter(None, ("in the environment, but no setting is called so", hint))))
