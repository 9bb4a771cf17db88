"""The section of the configuration about records of usage."""

from __future__ import annotations

from dataclasses import dataclass

from protos.domain.settings import setting


@dataclass(frozen=True, slots=True)
class UsageSection:
    """``[usage]``: records of usage."""

    #: Days that each record stays in usage.db; then it is in the blob store, as Parquet.
    raw_days: int = setting(30, at_least=1, at_most=3_650)
    #: Days that exported records stay in the blob store; 0: for ever.
    export_days: int = setting(0, at_least=0, at_most=36_500)


def check_usage(usage: UsageSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if usage.export_days and usage.export_days < usage.raw_days:
        problems.append(
            f"usage.export_days: {usage.export_days} is below usage.raw_days = {usage.raw_days}"
        )
    return problems
