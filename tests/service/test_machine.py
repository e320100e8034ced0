"""What is read of the kernel about the CPU, and how much of it this process may use."""

import os
from pathlib import Path

import pytest

from service import machine

# As in /proc/cpuinfo of a server with Neoverse V1 cores.
ARM = """processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all control groups; this process is in /user.slice/clipserve.service."""
    own = tmp_path / "cgroup"
    own.write_text("12:cpuset:/elsewhere\n0::/user.slice/clipserve.service\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", own)
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    (tmp_path / "groups/user.slice/clipserve.service").mkdir(parents=True)
    return tmp_path / "groups"


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        # systemd's CPUQuota=150% of a service; the root of all groups has no such file.
        ({"user.slice": "max 100000", "user.slice/clipserve.service": "150000 100000"}, 1.5),
        # The limit of a slice holds for all in it together.
        ({"user.slice": "50000 100000", "user.slice/clipserve.service": "max 100000"}, 0.5),
        ({"user.slice": "400000 100000", "user.slice/clipserve.service": "30000 10000"}, 3.0),
        ({"user.slice": "max 100000", "user.slice/clipserve.service": "max 100000"}, None),
        ({"user.slice/other.service": "10000 100000"}, None),
        ({}, None),
    ],
)
def test_the_least_cpu_time_of_the_groups_that_it_is_in_counts(
    groups: Path, limits: dict[str, str], cores: float | None
) -> None:
    for group, limit in limits.items():
        (groups / group).mkdir(exist_ok=True)
        (groups / group / "cpu.max").write_text(f"{limit}\n")
    assert machine.cpu_quota() == cores
    may_run_on = len(os.sched_getaffinity(0))
    # A part of a core is worth a thread.
    assert machine.available_cores() == (may_run_on if cores is None else min(may_run_on, int(cores + 0.9)))


def test_container_sees_its_own_group_as_the_root(groups: Path) -> None:
    machine._OWN_GROUP.write_text("0::/\n")
    (groups / "cpu.max").write_text("50000 100000\n")
    assert machine.cpu_quota() == 0.5


def test_arm_has_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(ARM)
    monkeypatch.setattr(machine, "_CPU_INFO", file)
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    assert {"asimd", "bf16", "i8mm"} <= machine.cpu_flags()
    first = machine.cpu_model()
    assert first == "aarch64 (implementer 0x41, part 0xd40)"
    # Neoverse V2
    file.write_text(ARM.replace("0xd40", "0xd4f"))
    assert machine.cpu_model() != first
