"""The load that a node reports: written and read here, for answers to probes and for headers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.core.engine_admission import Newcomer
from agent.core.fill import parse_fill_ratio
from protos.domain.load_term import MAX_LOAD_MS, ColdPath, ColdWay
from protos.domain.resources import Residency

#: No engine serves, and no queue holds, more sequences; a report of more is not valid.
MAX_LOAD = 1_000_000
#: On every answer to another agent.
LOAD_HEADER = b"x-edgeforge-load"
#: Of an answer to a probe: names that are written and read, and characters of the run's name.
MAX_NAMES, _MAX_RUN_CHARS = 1_024, 64
#: A longer time to retry counts as this.
_MOST_RETRY_S = 3_600.0


@dataclass(slots=True)
class PeerLoad:
    """``in_flight`` sequences are served, ``queued`` wait. ``fill_ratio`` None: not reported.

    ``newcomer``: what an account without requests there would meet; None: as every account.
    ``retry_after_s``: the node refused this account's request, which has too many waiting there.
    """

    in_flight: int
    queued: int
    fill_ratio: float | None
    draining: bool = False
    newcomer: Newcomer | None = None
    retry_after_s: float | None = None


@dataclass(slots=True)
class ProbeAnswer:
    """``incarnation``: which run of its engine answers; None of an agent that does not say it.

    ``ready_models`` are names of models and adapters in its engines, ``loadable`` those that it
    would load for a request; None of an agent that does not say it.
    """

    load: PeerLoad
    ready_models: list[str]
    incarnation: str | None
    loadable: dict[str, ColdWay] | None = None


def load_header(load: PeerLoad) -> tuple[bytes, bytes]:
    """Return the header that reports ``load``."""
    value = b"in_flight=%d;queued=%d" % (load.in_flight, load.queued)
    if load.fill_ratio is not None:
        value += b";fill=%.3f" % load.fill_ratio
    if (newcomer := load.newcomer) is not None:
        value += b";newcomer=%d/%d/%d" % (newcomer.in_flight, newcomer.queued, newcomer.share)
    if load.draining:
        value += b";draining=1"
    if load.retry_after_s is not None:
        value += b";retry=%.0f" % load.retry_after_s
    return LOAD_HEADER, value


def load_of(headers: Iterable[tuple[bytes, bytes]]) -> PeerLoad | None:
    """Return the load that a peer reported in its response headers, or None."""
    for name, value in headers:
        if name == LOAD_HEADER:
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                in_flight, queued = int(parts.get(b"in_flight", 0)), int(parts.get(b"queued", 0))
            except ValueError:
                return None
            if not (0 <= in_flight <= MAX_LOAD and 0 <= queued <= MAX_LOAD):
                return None
            return PeerLoad(
                in_flight,
                queued,
                parse_fill_ratio(parts.get(b"fill")),
                parts.get(b"draining") == b"1",
                parse_newcomer(parts.get(b"newcomer")),
                parse_retry_s(parts.get(b"retry")),
            )
    return None


def load_fields(load: PeerLoad) -> dict[str, object]:
    """Return ``load`` as fields of an answer to a probe; a draining node names no ready models."""
    fields: dict[str, object] = {
        "in_flight": load.in_flight,
        "queued": load.queued,
        "fill": load.fill_ratio,
    }
    if (newcomer := load.newcomer) is not None:
        fields["newcomer"] = [newcomer.in_flight, newcomer.queued, newcomer.share]
    return fields


def load_of_fields(answer: Mapping[str, object]) -> PeerLoad:
    """Return the load in a peer's answer to a probe. Raises: KeyError, TypeError, ValueError."""
    in_flight, queued = answer["in_flight"], answer["queued"]
    if not isinstance(in_flight, int) or not isinstance(queued, int):
        raise TypeError("the load in the answer to a probe is no number of requests")
    if not (0 <= in_flight <= MAX_LOAD and 0 <= queued <= MAX_LOAD):
        raise ValueError("the load in the answer to a probe is not possible")
    return PeerLoad(
        in_flight,
        queued,
        parse_fill_ratio(answer.get("fill")),
        newcomer=parse_newcomer(answer.get("newcomer")),
    )


def read_probe(answer: object) -> ProbeAnswer:
    """Return what a peer's answer to a probe says. Raises: ValueError for no such answer.

    Values of other types than expected are left out: ``str`` raises for a deeply nested one.
    """
    if not isinstance(answer, dict):
        raise ValueError("the answer to a probe is no object")
    try:
        load, models = load_of_fields(answer), answer["ready_models"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the answer to a probe lacks {error}") from error
    if not isinstance(models, list):
        raise ValueError("the answer to a probe has no list of models")
    ready = [one for one in models[:MAX_NAMES] if isinstance(one, str)]
    run = answer.get("incarnation")
    return ProbeAnswer(
        load,
        ready,
        run[:_MAX_RUN_CHARS] if isinstance(run, str) else None,
        read_loadable(answer.get("loadable")),
    )


def loadable_field(loadable: Mapping[str, ColdWay] | None) -> dict[str, str] | None:
    """Return what a node would load as a field of an answer to a probe.

    None for more than ``MAX_NAMES``: of those left out it would say that they are not loaded.
    """
    if loadable is None or len(loadable) > MAX_NAMES:
        return None
    return {name: way_text(way) for name, way in loadable.items()}


def read_loadable(given: object) -> dict[str, ColdWay] | None:
    """Return the ways in an answer to a probe; None if it has none. Drops what is malformed."""
    if not isinstance(given, dict):
        return None
    found: dict[str, ColdWay] = {}
    for name, text in list(given.items())[:MAX_NAMES]:
        way = read_way(text) if isinstance(text, str) else None
        if way is not None and isinstance(name, str):
            found[name] = way
    return found


def way_text(way: ColdWay) -> str:
    """Return ``way`` as a word: ``adapter/disk``, or ``swap/disk/1500`` with a delay."""
    text = f"{way.path}/{way.residency}"
    return f"{text}/{way.delay_ms:.0f}" if way.delay_ms else text


def read_way(text: str) -> ColdWay | None:
    """Return the way that ``way_text`` made a word of; None for any other text."""
    path, _, rest = text.partition("/")
    residency, _, delay = rest.partition("/")
    try:
        delay_ms = float(delay or 0.0)
        if not abs(delay_ms) <= MAX_LOAD_MS:  # not a number neither
            return None
        return ColdWay(ColdPath(path), Residency(residency), delay_ms)
    except ValueError:
        return None


def parse_newcomer(given: object) -> Newcomer | None:
    """Return what a node reported of a new account: three numbers; None for anything else."""
    if isinstance(given, bytes):
        given = given.split(b"/")
    if not isinstance(given, list) or len(given) != 3:
        return None
    try:
        in_flight, queued, share = (max(0, int(each)) for each in given)
    except (TypeError, ValueError, OverflowError):
        return None
    if max(in_flight, queued, share) > MAX_LOAD:  # arithmetic with huge integers raises
        return None
    return Newcomer(in_flight, queued, share)


def parse_retry_s(given: bytes | None) -> float | None:
    """Return after how long a refused account may try again; None if it was not refused."""
    try:
        retry_s = math.nan if given is None else float(given)
    except ValueError:
        return None
    return min(_MOST_RETRY_S, max(1.0, retry_s)) if math.isfinite(retry_s) else None
