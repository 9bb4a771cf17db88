"""Wheels: what is in the compiled one, where it runs, and that nothing stale can run."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib
import shutil
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protos.build_info import BuildInfo, build_info
from tests.support.wheels import ROOT, wheel_module

TAG_MACHINE = wheel_module("retag").platform_tag([]).removeprefix("manylinux_2_17_")
NARROWED = """
    cpy_r_r5 = ((agent___relay___exchange___ExchangeObject *)cpy_r_self)->_ending;
    CPy_INCREF(cpy_r_r5);
    if (unlikely(cpy_r_r5 != Py_None)) {
        CPy_TypeError("None", cpy_r_r5); cpy_r_r6 = 2;
    }
    CPy_AddTraceback("agent/relay/exchange.py", "on_read_end", 94, x);
"""


@pytest.fixture
def pure(tmp_path: Path) -> Path:
    """A pure wheel with two modules."""
    path = tmp_path / "edgeforge-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("agent/hot.py", "x = 1\n")
        wheel.writestr("agent/cold.py", "y = 1\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("edgeforge-1.0.dist-info/WHEEL", tags)
        wheel.writestr("edgeforge-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def compiled(pure: Path, tmp_path: Path) -> zipfile.ZipFile:
    shared = tmp_path / "hot.so"
    shared.write_bytes(b"\\x7fELF GLIBC_2.2.5 GLIBC_2.34 GLIBC_2.17")
    made = wheel_module("retag").with_objects(
        pure, {"agent/hot.so": shared}, ["agent/hot.py"], tmp_path / "made"
    )
    assert made.name == f"edgeforge-1.0-{_tag('manylinux_2_34')}.whl"
    return zipfile.ZipFile(made)


def _tag(platform: str) -> str:
    python = wheel_module("retag")._PYTHON_TAG
    return f"{python}-{python}-{platform}_{TAG_MACHINE}"


def test_a_compiled_wheel_has_no_source_of_what_is_compiled(compiled: zipfile.ZipFile):
    """So that no object can lie beside a source that was edited since."""
    names = compiled.namelist()
    assert "agent/hot.so" in names
    assert "agent/hot.py" not in names
    assert "agent/cold.py" in names


def test_its_tag_says_which_systems_have_what_it_needs(compiled: zipfile.ZipFile):
    said = compiled.read("edgeforge-1.0.dist-info/WHEEL").decode().splitlines()
    assert f"Tag: {_tag('manylinux_2_34')}" in said
    assert "Root-Is-Purelib: false" in said
    assert "Tag: py3-none-any" not in said


def test_its_record_has_every_file_with_its_digest(compiled: zipfile.ZipFile):
    rows = compiled.read("edgeforge-1.0.dist-info/RECORD").decode().splitlines()
    assert {row.split(",")[0] for row in rows} == set(compiled.namelist())
    for row in rows:
        name, digest, size = row.split(",")
        if digest:
            data = compiled.read(name)
            found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            assert (digest, int(size)) == (f"sha256={found}", len(data))


def test_an_edited_source_never_runs_stale(tmp_path: Path):
    """Another source is another build, and a checkout has no objects that could hide a source."""
    builder = wheel_module("build_wheels")
    for package in builder.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pyc*"))
    before = builder.sources_digest(tmp_path)
    assert before == builder.sources_digest()
    edited = tmp_path / "agent" / "clock.py"
    edited.write_text(edited.read_text() + "\n")
    after = builder.sources_digest(tmp_path)
    assert after != before
    assert builder.build_digest(after, "gcc") != builder.build_digest(before, "gcc")
    assert [path for name in builder.PACKAGES for path in (ROOT / name).rglob("*.so")] == []


def test_an_attribute_that_is_taken_for_none_stops_the_build():
    found = wheel_module("compile_modules").narrowed_to_none(NARROWED)
    assert found == [
        "agent/relay/exchange.py:94: ending is taken for None in on_read_end; compare a local"
    ]
    assert wheel_module("compile_modules").narrowed_to_none(NARROWED.replace("->_e", "->e")) == []


def test_no_interpreted_class_inherits_a_compiled_protocol() -> None:
    """An instance of one raises TypeError: "interpreted classes cannot inherit from ..."."""
    compiled = set(wheel_module("build_wheels").compiled_modules())
    assert "agent/relay/upstream.py" in compiled
    found = []
    for path in (*ROOT.glob("agent/**/*.py"), *ROOT.glob("protos/**/*.py")):
        if str(path.relative_to(ROOT)) in compiled or path.stem.endswith(("_pb2", "_pb2_grpc")):
            continue
        tree = ast.parse(path.read_text())
        imported = {
            name.asname or name.name: f"{node.module.replace('.', '/')}.py"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for name in node.names
        }
        found += [
            f"{path.relative_to(ROOT)}: {one.name}({base.id})"
            for one in ast.walk(tree)
            if isinstance(one, ast.ClassDef)
            for base in one.bases
            if isinstance(base, ast.Name)
            and imported.get(base.id) in compiled
            and f"class {base.id}(Protocol)" in (ROOT / imported[base.id]).read_text()
        ]
    assert not found


def test_without_a_compiler_the_build_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    compiler = wheel_module("compiler")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiler.Path, "exists", lambda path: True)
    monkeypatch.setattr(compiler.shutil, "which", lambda name: None)
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(compiler.NoCompiler, match="apt-get install gcc, or pip install ziglang"):
        compiler.find_compiler()
    monkeypatch.setattr(compiler.Path, "exists", lambda path: False)
    with pytest.raises(compiler.NoCompiler, match="install Python's headers"):
        compiler.find_compiler()


def test_which_build_runs_is_said():
    assert build_info().kind in ("compiled", "interpreted")
    assert str(BuildInfo("1.0", True, "abc")) == "1.0 (compiled, sources abc)"
    assert str(BuildInfo("1.0", False, "")) == "1.0 (interpreted, from a checkout)"
    status = BuildInfo("1.0", True, "abc").status(0.0)
    assert status == {"build": {"version": "1.0", "kind": "compiled", "sources": "abc"}}


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("coordinator.cli.main", "edgeforge"),
        ("agent.cli", "edgeforge-agent"),
        ("coordinator.daemon", "edgeforge-coordinator"),
    ],
)
def test_every_command_prints_its_version_and_build(module: str, program: str):
    done = CliRunner().invoke(importlib.import_module(module).app, ["--version"])
    assert done.exit_code == 0
    assert done.output == f"{program} {build_info()}\n"
