"""What a published runtime may say: an engine, its version, its options by allowlist."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from protos.domain.engine_options import (
    ACCELERATORS,
    CUDA_LOAD_FORMATS,
    CUDA_OPTIONS,
    ENGINE_KINDS,
    LOAD_FORMATS,
    RUNTIME_OPTIONS,
    extra_option_problems,
    option_names,
)
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from protos.domain.resources import Runtime

MAX_ARGS: Final = 64
_MAX_CONSTRAINT_CHARS: Final = 100
#: No slash and no brace: a value names no path and holds no JSON.
_WORD: Final = re.compile(r"[A-Za-z0-9_.,:=+-]{1,200}", re.ASCII)
#: No dot, which reaches into an option, and no single hyphen but that of a number.
_OPTION: Final = re.compile(r"--[a-z][a-z0-9_-]*(=.+)?")
_NEGATIVE: Final = re.compile(r"-[0-9]+(\.[0-9]+)?")
_CONSTRAINT: Final = re.compile(r"[A-Za-z0-9.,<>=!~*+ ]*")


def checked_runtime(runtime: Runtime) -> Runtime:
    """Return a runtime that may be published, its accelerators in order. Raises: InvalidRequest.

    The name is checked by its caller.
    """
    if runtime.engine_kind not in ENGINE_KINDS:
        raise InvalidRequest(
            f"engine kind {runtime.engine_kind[:40]!a} is not known",
            "use " + ", ".join(ENGINE_KINDS),
        )
    accelerators = _accelerators(runtime)
    _check_args(runtime, accelerators)
    _check_load_format(runtime, accelerators)
    return replace(
        runtime,
        version_constraint=_constraint(runtime.version_constraint),
        accelerators=accelerators,
    )


def _accelerators(runtime: Runtime) -> tuple[str, ...]:
    for one in runtime.accelerators:
        if one not in ACCELERATORS:
            raise InvalidRequest(
                f"accelerator {one[:40]!a} is not known", "use " + ", ".join(ACCELERATORS)
            )
    return tuple(one for one in ACCELERATORS if one in runtime.accelerators)


def _constraint(text: str) -> str:
    if len(text) > _MAX_CONSTRAINT_CHARS:
        raise InvalidRequest(f"a version constraint has at most {_MAX_CONSTRAINT_CHARS} characters")
    try:
        if _CONSTRAINT.fullmatch(text) is None or "===" in text:
            raise InvalidSpecifier
        return str(SpecifierSet(text))
    except InvalidSpecifier as error:
        raise InvalidRequest(
            f"{text[:80]!a} is no version constraint", "write it as pip does: >=0.32,<0.33"
        ) from error


def _check_args(runtime: Runtime, accelerators: tuple[str, ...]) -> None:
    if len(runtime.args) > MAX_ARGS:
        raise InvalidRequest(f"{len(runtime.args)} arguments are more than {MAX_ARGS}")
    for argument in runtime.args:
        if _WORD.fullmatch(argument) is None:
            raise InvalidRequest(
                f"argument {argument[:80]!a} is not allowed",
                "an option or a plain value: no path, no JSON",
            )
    if problems := extra_option_problems(runtime.args, RUNTIME_OPTIONS):
        raise InvalidRequest(
            "; ".join(problems), "a runtime may set: " + " ".join(sorted(RUNTIME_OPTIONS))
        )
    may_be_value = False
    for argument in runtime.args:
        if _OPTION.fullmatch(argument) is not None:
            may_be_value = "=" not in argument
        elif argument.startswith("-") and _NEGATIVE.fullmatch(argument) is None:
            raise InvalidRequest(f"argument {argument[:80]!a} is not an option's whole name")
        elif not may_be_value:
            # The engine would take it for the name of a model.
            raise InvalidRequest(f"argument {argument[:80]!a} belongs to no option")
        else:
            may_be_value = False
    only_cuda = [name for name in option_names(runtime.args) if name in CUDA_OPTIONS]
    if only_cuda and accelerators != ("cuda",):
        raise InvalidRequest(f"{only_cuda[0]} needs CUDA", 'set accelerators to "cuda" alone')


def _check_load_format(runtime: Runtime, accelerators: tuple[str, ...]) -> None:
    if not runtime.load_format:
        return
    if runtime.load_format not in LOAD_FORMATS:
        raise InvalidRequest(
            f"load format {runtime.load_format[:40]!a} is not served",
            "served: " + ", ".join(sorted(LOAD_FORMATS)),
        )
    if runtime.load_format in CUDA_LOAD_FORMATS and accelerators != ("cuda",):
        raise InvalidRequest(
            f"load format {runtime.load_format} needs CUDA", 'set accelerators to "cuda" alone'
        )
