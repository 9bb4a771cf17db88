"""Whether this host can start an engine as a runtime says. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from protos.domain.resources import Runtime


def runtime_problem(
    runtime: Runtime, *, engine_kind: str, engine_version: str, accelerator: str
) -> str:
    """Return why an engine of this host is not what ``runtime`` asks for, empty if it is."""
    if runtime.engine_kind != engine_kind:
        return f"{runtime.name} is for {runtime.engine_kind}, this node runs {engine_kind}"
    if runtime.accelerators and accelerator not in runtime.accelerators:
        wanted = ", ".join(runtime.accelerators)
        return f"{runtime.name} is for {wanted}, this node has {accelerator}"
    if not runtime.version_constraint:
        return ""
    try:
        constraint = SpecifierSet(runtime.version_constraint)
    except InvalidSpecifier:
        return f"{runtime.name} has no valid version constraint: {runtime.version_constraint}"
    try:
        version = Version(engine_version)
    except InvalidVersion:
        return f"{runtime.name} is for {constraint}, the version of this node's engine is unknown"
    # What was released for one kind of device, such as 0.32.0+cpu, is that release.
    if constraint.contains(version.public, prereleases=True):
        return ""
    return f"{runtime.name} is for {engine_kind} {constraint}, this node has {engine_version}"
