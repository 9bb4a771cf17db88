"""``dist/install-host``: a host installs our wheel by its path, and all others by their hash."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "packaging" / "wheels" / "build_wheels.py"

pytestmark = pytest.mark.timeout(300)

#: A Python whose virtual environments have a pip that only writes down what it was asked.
PRETENDER = """#!/bin/bash
case "$*" in
    -c*) exit 0 ;;
    '-m venv '*)
        mkdir -p "$3/bin"
        printf '#!/bin/bash\\necho "$*" >>"$CALLS"\\n[[ $* != *"${PIP_REFUSES:-nothing}"* ]]\\n' >"$3/bin/pip"
        printf '#!/bin/bash\\necho edgeforge 0.1.0\\n' >"$3/bin/edgeforge"
        chmod +x "$3/bin/"*
        ;;
    -V) echo "Python 3.11.9" ;;
esac
"""  # noqa: E501


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, BUILD, "--pure", "--out", out], check=True, capture_output=True)
    return out


def install(dist: Path, tmp_path: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    python = tmp_path / "python"
    python.write_text(PRETENDER)
    python.chmod(0o755)
    command = [dist / "install-host", "--no-service"]
    command += ["--python", python, "--venv", tmp_path / "venv", *argv]
    return subprocess.run(
        command,
        env=os.environ | {"CALLS": str(tmp_path / "calls")} | env,
        capture_output=True,
        text=True,
        check=False,
    )


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("install")]


def test_the_folder_has_all_that_a_host_needs(dist: Path) -> None:
    for name in (
        "edgeforge_edge-0.1.0-py3-none-any.whl",
        "engine/install",
        "engine/requirements-cpu.txt",
        "install-host",
        "requirements/agent.txt",
        "requirements/coordinator.txt",
        "docs/OPERATIONS.md",
        "systemd/edgeforge-agent.service",
    ):
        assert (dist / name).is_file(), name
    for line in (dist / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((dist / name).read_bytes()).hexdigest() == digest


def test_others_are_installed_by_hash_and_ours_by_path(dist: Path, tmp_path: Path) -> None:
    done = install(dist, tmp_path, "agent", "nvidia")
    assert done.returncode == 0, done.stderr
    others, ours = calls(tmp_path)
    assert "--require-hashes" in others
    assert f"-r {dist}/requirements/agent.txt -r {dist}/requirements/nvidia.txt" in others
    assert "--no-index --no-deps" in ours
    assert ours.endswith(f"{dist}/edgeforge_edge-0.1.0-py3-none-any.whl")


def test_a_host_without_an_index_takes_a_folder_of_wheels(dist: Path, tmp_path: Path) -> None:
    assert install(dist, tmp_path, "--wheels", "/media/wheels", "agent").returncode == 0
    for call in calls(tmp_path):
        assert "--no-index" in call


def test_a_changed_file_is_refused_before_anything_is_installed(dist: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dist"
    subprocess.run(["cp", "-r", dist, copy], check=True)
    with (copy / "requirements" / "agent.txt").open("a") as file:
        file.write("evil==1\n")
    done = install(copy, tmp_path, "agent")
    assert done.returncode == 65
    assert "not as it was built" in done.stderr
    assert calls(tmp_path) == []


@pytest.mark.parametrize("argv", [[], ["nvidia"], ["--what"], ["--venv"], ["laptop"]])
def test_a_wrong_argument_is_a_usage_error(dist: Path, tmp_path: Path, argv: list[str]) -> None:
    done = install(dist, tmp_path, *argv)
    assert done.returncode == 64
    assert "next: " in done.stderr


def test_a_hash_that_does_not_fit_ends_the_installation(dist: Path, tmp_path: Path) -> None:
    done = install(dist, tmp_path, "agent", PIP_REFUSES="--require-hashes")
    assert done.returncode == 69
    assert len(calls(tmp_path)) == 1, "the product was not installed either"


def test_the_wheel_runs_in_a_fresh_environment(dist: Path, tmp_path: Path) -> None:
    """With the real pip, and the command line's packages from the index, by hash."""
    done = subprocess.run(
        [dist / "install-host", "--python", sys.executable, "--venv", tmp_path / "v", "cli"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "edgeforge 0.1.0 (interpreted, sources " in done.stdout
    listed = subprocess.run(
        [tmp_path / "v" / "bin" / "pip", "list", "--format", "freeze"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "edgeforge-edge==0.1.0" in listed
    shown = subprocess.run(
        [tmp_path / "v" / "bin" / "edgeforge", "node", "ls"],
        env={"EDGEFORGE_PROFILE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "profile" in shown.stderr
    assert "Traceback" not in shown.stderr
