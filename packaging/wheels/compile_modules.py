"""Compiles modules of a copied tree with mypyc: ``compile_modules.py TREE OUT MODULE...``.

Run by ``build_wheels.py`` as a process of its own, with the Python that the objects are for.
"""

from __future__ import annotations

import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distutils.ccompiler import CCompiler

#: Prefix of the shared object that all modules are compiled into; each has a small one beside it.
GROUP = "edgeforge"
_FLAGS = ["-O1", "-g0", "-fvisibility=hidden", "-fno-semantic-interposition", "-fwrapv"]

#: A cast to None of an attribute's value, and the call that says where it fails.
_NARROWED = re.compile(
    r"(cpy_r_r\d+) = \(\(\w+ \*\)\w+\)->_(\w+);(?:(?!\1 = ).)*?"
    r'CPy_TypeError\("None", \1\).*?CPy_AddTraceback\("([^"]+)", "([^"]+)", (\d+)',
    re.DOTALL,
)
_MAX_BETWEEN = 2_000


def narrowed_to_none(text: str) -> list[str]:
    """Return where C code of mypyc fails for an attribute that was None and has been set since.

    mypy takes an attribute that was compared with None for None until the function assigns it, even
    where a method that was called in between does so. Interpreted code does not mind.
    """
    found = []
    for match in _NARROWED.finditer(text):
        if match.end() - match.start() < _MAX_BETWEEN:
            _, name, file, function, line = match.groups()
            found.append(f"{file}:{line}: {name} is taken for None in {function}; compare a local")
    return found


def compile_on_all_cores(
    compiler: CCompiler,
    sources: list[str],
    output_dir: str | None = None,
    macros: list[Any] | None = None,
    include_dirs: list[str] | None = None,
    debug: bool = False,
    extra_preargs: list[str] | None = None,
    extra_postargs: list[str] | None = None,
    depends: list[str] | None = None,
) -> list[str]:
    """Compile as ``CCompiler.compile`` does, with a process per core. Returns the objects."""
    _, objects, postargs, options, build = compiler._setup_compile(
        output_dir, macros, include_dirs, sources, depends, extra_postargs
    )
    arguments = compiler._get_cc_args(options, debug, extra_preargs)

    def compile_one(target: str) -> None:
        source, extension = build[target]
        compiler._compile(target, source, extension, arguments, postargs, options)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, build))
    return list(objects)


def main(tree: Path, out: Path, modules: list[str]) -> None:
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    extensions = mypycify(
        ["--config-file", "mypy.ini", *modules],
        opt_level="2",
        debug_level="0",
        multi_file=True,
        group_name=GROUP,
        target_dir=str(tree / "build"),
    )
    faults = [
        fault
        for path in sorted(tree.rglob("__native*.c"))
        for fault in narrowed_to_none(path.read_text())
    ]
    if faults:
        raise SystemExit("\n".join(faults))
    for one in extensions:
        kept = [flag for flag in one.extra_compile_args if not flag.startswith(("-O", "-g"))]
        one.extra_compile_args = [*kept, *_FLAGS]
        one.extra_link_args = [*(one.extra_link_args or []), "-s"]

    class BuildOnAllCores(build_ext):
        """One extension holds nearly all files; ``build_ext`` compiles its files in turn."""

        def build_extensions(self) -> None:
            self.compiler.compile = partial(compile_on_all_cores, self.compiler)
            super().build_extensions()

    command = BuildOnAllCores(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(out), str(tree / "build" / "objects")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
