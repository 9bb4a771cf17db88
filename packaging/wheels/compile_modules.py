"""Compiles modules of a copied tree with mypyc: ``compile_modules.py TREE OUT MODULE...``.

Run by ``build.py`` as a process of its own, with the Python that the objects are for.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Prefix of the shared object that all modules are compiled into; each has a small one beside it.
GROUP = "edgeforge"
_FLAGS = ["-O2", "-g0", "-fvisibility=hidden", "-fno-semantic-interposition", "-fwrapv"]


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
    for one in extensions:
        kept = [flag for flag in one.extra_compile_args if not flag.startswith(("-O", "-g"))]
        one.extra_compile_args = [*kept, *_FLAGS]
        one.extra_link_args = [*(one.extra_link_args or []), "-s"]
    command = build_ext(Distribution({"name": GROUP, "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(out), str(tree / "build" / "objects")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
