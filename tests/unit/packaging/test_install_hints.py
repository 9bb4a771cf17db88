"""PyPI's ``edgeforge`` is a stranger's: nothing of ours tells anybody to install that name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from protos import build_info

ROOT = Path(__file__).parents[3]
#: A requirement, not a path to a wheel: the bare name, with extras or a version or without.
BY_NAME = re.compile(r"(?<![\w./*-])edgeforge(-edge)?(?=\[|[\s'\"`)=<>~,;]|$)")
HASHES_OR_PATH = ("--require-hashes", "--no-index", '"$@"', "pip=(", "--dry-run", "others[@]")


def texts() -> list[Path]:
    """Return every file of ours that a person or a shell may read, tests apart."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    kinds = {".md", ".py", ".toml", ".txt", ".service", ".json", ""}
    return [
        ROOT / name
        for name in listed
        if not name.startswith("tests/") and Path(name).suffix in kinds and (ROOT / name).is_file()
    ]


def pip_commands(text: str) -> list[str]:
    """Return what follows ``pip install``, ``pip download`` and their like in ``text``."""
    joined = text.replace("\\\n", " ")
    return re.findall(r"\bpip[\w.]*[\"']?\s+(?:install|download|wheel)\b([^\n]*)", joined)


def test_nothing_tells_pip_to_install_the_product_by_name():
    wrong = [
        f"{path.relative_to(ROOT)}: {command.strip()[:100]}"
        for path in texts()
        for command in pip_commands(path.read_text(encoding="utf-8"))
        if BY_NAME.search(command)
    ]
    assert wrong == []


def test_no_text_of_ours_names_the_product_with_extras():
    """That form is only good for pip."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in texts()
        if re.search(r"\bedgeforge(-edge)?\[[a-z]", path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_no_script_adds_an_index_beside_another():
    wrong = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "packaging").rglob("*")
        if path.is_file()
        and path.suffix not in {".pyc"}
        and re.search(r"extra.index.url", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert wrong == []


@pytest.mark.parametrize("name", ["install-product", "install-compiled", "install-host", "lock"])
def test_scripts_install_by_hash_or_by_path(name):
    text = (ROOT / "packaging" / name).read_text()
    for line in text.replace("\\\n", " ").splitlines():
        if re.search(r"\bpip\b.*\binstall\b", line) and not line.lstrip().startswith("#"):
            if any(words in line for words in ("pip failed", "pip could not", "download")):
                continue
            assert any(word in line for word in HASHES_OR_PATH), line


@pytest.mark.parametrize(
    ("command", "is_by_name"),
    [
        (" edgeforge", True),
        (" 'edgeforge[agent]'", True),
        (" -c constraints.txt 'edgeforge[agent,nvidia]'", True),
        (" edgeforge==0.1.0", True),
        (" edgeforge-edge", True),
        (" --no-index dist/edgeforge_edge-0.1.0-py3-none-any.whl", False),
        (" --require-hashes -r /opt/edgeforge/requirements/agent.txt", False),
        (" -e .", False),
    ],
)
def test_a_name_is_told_from_a_path(command, is_by_name):
    assert bool(BY_NAME.search(command)) is is_by_name


def test_the_distribution_is_not_the_strangers():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == build_info.DISTRIBUTION == "edgeforge-edge"
    assert set(project["scripts"]) == {"edgeforge", "edgeforge-agent", "edgeforge-coordinator"}
