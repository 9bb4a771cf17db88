"""Requirements with hashes: current, complete, of the versions that are tested."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
HERE = ROOT / "packaging" / "requirements"
FILES = sorted(path.name for path in HERE.glob("*.txt"))


def lock_module() -> Any:
    spec = importlib.util.spec_from_file_location("edgeforge_lock", HERE / "lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOCK = lock_module()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def packages_of(name: str) -> list[str]:
    if name in LOCK.PRODUCT:
        extras = [one for extra in LOCK.PRODUCT[name] for one in EXTRAS[extra]]
        return [*PROJECT["dependencies"], *extras]
    return EXTRAS[LOCK.BESIDE[name]] if name in LOCK.BESIDE else LOCK.TOOLS[name]


def requirements(name: str) -> list[str]:
    text = (HERE / name).read_text().replace("\\\n", "")
    return [line for line in text.splitlines() if not line.startswith("#")]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", FILES)
def test_each_package_has_a_version_and_hashes(name):
    assert requirements(name)
    for line in requirements(name):
        assert re.fullmatch(r"[\w.-]+==[\w.+!]+( +--hash=sha256:[0-9a-f]{64})+", line), line


@pytest.mark.parametrize("name", FILES)
def test_versions_are_those_of_the_constraints(name):
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {normal(one.split("==")[0]): one.split("==")[1] for one in lines}
    for line in requirements(name):
        package, version = line.split()[0].split("==")
        assert pinned[normal(package)] == version


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_made_from_the_present_dependencies(name):
    """After a change of pyproject.toml or constraints.txt: make lock."""
    wanted = LOCK.header(packages_of(name.removesuffix(".txt")), LOCK.CONSTRAINTS)
    assert (HERE / name).read_text().startswith(wanted), "make lock"


def test_every_direct_dependency_is_there():
    for name in FILES:
        held = {normal(line.split("==")[0]) for line in requirements(name)}
        for package in packages_of(name.removesuffix(".txt")):
            direct = re.match(r"[\w.-]+", package)
            assert direct
            assert normal(direct[0]) in held


@pytest.mark.parametrize(
    ("file", "ours"),
    [
        ("rich-15.0.0-py3-none-any.whl", True),
        ("six-1-py2.py3-none-any.whl", True),
        ("a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-cp313-cp313-manylinux_2_28_aarch64.whl", True),
        ("a-1-cp39-abi3-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp312-abi3-manylinux_2_28_x86_64.whl", True),
        ("z-1-py3-none-manylinux_2_12_x86_64.musllinux_1_1_x86_64.whl", True),
        ("a-1-cp310-cp310-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp314-cp314-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp313-cp313t-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp311-cp311-macosx_11_0_arm64.whl", False),
        ("a-1-cp311-cp311-win_amd64.whl", False),
        ("a-1-cp311-cp311-manylinux_2_28_ppc64le.whl", False),
        ("a-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl", False),
    ],
)
def test_hashes_are_of_files_for_our_systems_only(file, ours):
    assert LOCK.is_ours(file) is ours
