"""The adoption clock: what is tracked of other hubs, and the next step for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.core import adoption as clock
from coordinator.core.adoption import Step, Track
from coordinator.operations.acts import Act
from coordinator.operations.upstream import Progress, parse_upstream
from coordinator.operations.upstream_imports import NewImport, import_upstream, upstream_of
from coordinator.operations.use_case import UseCases, named, note_of, use_case
from coordinator.store import adoption
from protos.domain.errors import EdgeForgeError, InvalidRequest, NotFound
from protos.domain.ids import check_account_id
from protos.domain.object_names import parse_ref
from protos.domain.resources import ReplicaState

if TYPE_CHECKING:
    from coordinator.operations.actor import Actor
    from coordinator.operations.agents import CanaryResult
    from coordinator.operations.upstream import UpstreamRef
    from coordinator.operations.use_case import OperationsParts

#: Of a commit, in the name of the version that it becomes.
_TAG_CHARS = 12
#: Nodes that are asked for a canary before the step has failed.
_MAX_ASKED = 3


@dataclass(frozen=True, slots=True)
class TrackedRelease:
    """A release with what the clock says of it."""

    release: clock.Release
    state: clock.ReleaseState
    promise: clock.Promise


@dataclass(frozen=True, slots=True)
class Tracked:
    """A track with what the clock says of its releases, newest first."""

    track: Track
    releases: tuple[TrackedRelease, ...]
    #: 0: not since this coordinator's start.
    asked_unix_ms: int


class Adoption(UseCases):
    """Repositories of other hubs whose releases are adopted."""

    def __init__(self, parts: OperationsParts) -> None:
        super().__init__(parts)
        self._asked_unix_ms: dict[str, int] = {}

    @use_case(Act.ADOPTION_TRACK, named("upstream"))
    async def track(
        self, actor: Actor, upstream: str, *, name: str = "", account_id: str = ""
    ) -> Tracked:
        """Track a repository; its present commit is seen now. Raises: InvalidRequest, Conflict."""
        ref = parse_upstream(upstream)
        if account_id:
            check_account_id(account_id)
            if account_id not in self._store.view().accounts:
                raise NotFound(
                    f"there is no account {account_id!r}", "`edgeforge account ls` shows all"
                )
        target = parse_ref(name or _name_of(ref, account_id))
        if target.version:
            raise InvalidRequest("each release becomes a version of its own", "give owner/name")
        if account_id and target.owner != account_id:
            raise InvalidRequest(f"what {account_id!r} owns is named {account_id}/NAME")
        commit = await upstream_of(self._parts).head(ref, target.owner)
        now_unix_ms = self._parts.now_unix_ms()
        track = Track(str(ref), target.repository, account_id, str(actor), now_unix_ms)
        track = clock.observed(track, commit, now_unix_ms)
        note = note_of(actor, Act.ADOPTION_TRACK, f"upstream/{ref}", f"name={target.repository}")
        await self._store.write(adoption.add(track), note)
        self._asked_unix_ms[track.upstream] = now_unix_ms
        return self._tracked(track)

    @use_case(Act.ADOPTION_LIST)
    async def list_all(self, actor: Actor) -> Sequence[Tracked]:
        """Return every track by name."""
        tracks = self._store.tracks()
        return [self._tracked(tracks[name]) for name in sorted(tracks)]

    @use_case(Act.ADOPTION_UNTRACK, named("upstream"))
    async def untrack(self, actor: Actor, upstream: str) -> None:
        """Track it no longer; what was imported stays. Raises: InvalidRequest, NotFound."""
        ref = parse_upstream(upstream)
        note = note_of(actor, Act.ADOPTION_UNTRACK, f"upstream/{ref}")
        await self._store.write(adoption.remove(str(ref)), note)

    @use_case(Act.ADOPTION_ADVANCE, named("upstream"))
    async def advance(self, actor: Actor, upstream: str) -> Tracked:
        """Ask upstream, and do what is due for its newest release. Raises: NotFound."""
        before = self._store.tracks().get(upstream)
        if before is None:
            raise NotFound(f"{upstream[:150]} is not tracked")
        ref = parse_upstream(upstream)
        after = await self._look(ref, before)
        while (step := clock.next_step(after, self._parts.now_unix_ms())) is not None:
            await self._keep(actor, before, after)
            before, after = after, await self._do(actor, step, after)
            if after.releases[0].error or after == before:
                break
        await self._keep(actor, before, after)
        return self._tracked(after)

    async def _keep(self, actor: Actor, before: Track, after: Track) -> None:
        if after == before:
            return
        newest = self._tracked(after).releases[0] if after.releases else None
        detail = f"{newest.release.commit} {newest.state}" if newest else "nothing seen"
        note = note_of(actor, Act.ADOPTION_ADVANCE, f"upstream/{after.upstream}", detail)
        await self._store.write(adoption.replace(before, after), note)

    async def _look(self, ref: UpstreamRef, track: Track) -> Track:
        try:
            commit = await upstream_of(self._parts).head(ref, track.name.partition("/")[0])
        except EdgeForgeError as error:
            return clock.unreachable(track, str(error))
        now_unix_ms = self._asked_unix_ms[track.upstream] = self._parts.now_unix_ms()
        return clock.observed(track, commit, now_unix_ms)

    async def _do(self, actor: Actor, step: Step, track: Track) -> Track:
        try:
            match step:
                case Step.IMPORT:
                    return await self._import(actor, track)
                case Step.QUALIFY:
                    return await self._qualify(track)
                case Step.CHECK:
                    return self._check(track)
        except EdgeForgeError as error:
            return clock.failed(track, str(error), self._parts.now_unix_ms())

    async def _import(self, actor: Actor, track: Track) -> Track:
        commit = track.releases[0].commit
        repository = parse_upstream(track.upstream).repository
        new = NewImport(
            upstream=f"hf://{repository}@{commit}",
            name=f"{track.name}@{commit[:_TAG_CHARS]}",
            account_id=track.account_id,
        )
        done = await import_upstream(self._parts, actor, Act.ADOPTION_ADVANCE, new, _unreported)
        return clock.imported(track, done.object.row.name, self._parts.now_unix_ms())

    async def _qualify(self, track: Track) -> Track:
        """Have an engine that serves the release answer a canary."""
        name = track.releases[0].name
        nodes = self._ready_nodes(name)
        if not nodes:
            return clock.waiting(track, f"no engine serves {name} yet: deploy it")
        failure: EdgeForgeError | None = None
        for node_id in nodes[:_MAX_ASKED]:
            try:
                found = await self._canary(node_id, name)
            except EdgeForgeError as error:
                failure = error
                continue
            now_unix_ms = self._parts.now_unix_ms()
            return clock.qualified(track, found.tokens_per_s, found.first_token_ms, now_unix_ms)
        assert failure is not None
        raise failure

    async def _canary(self, node_id: str, name: str) -> CanaryResult:
        adapter = self._store.view().adapters.get(name)
        if adapter is None:
            return await self._parts.agents.canary(node_id, name)
        return await self._parts.agents.canary(node_id, adapter.model, adapter=name)

    def _check(self, track: Track) -> Track:
        """Look whether a deployment serves the release."""
        name = track.releases[0].name
        deployments = self._store.view().deployments.values()
        if not any(name in (one.model, one.adapter) for one in deployments):
            return clock.waiting(track, f"no deployment names {name}")
        if not self._ready_nodes(name):
            return clock.waiting(track, f"no engine serves {name} now")
        return clock.available(track, self._parts.now_unix_ms())

    def _ready_nodes(self, name: str) -> list[str]:
        view = self._store.view()
        replicas = {**view.replicas.get(name, {}), **view.adapter_replicas.get(name, {})}
        return sorted(
            node_id for node_id, one in replicas.items() if one.state is ReplicaState.READY
        )

    def _tracked(self, track: Track) -> Tracked:
        now_unix_ms = self._parts.now_unix_ms()
        releases = tuple(
            TrackedRelease(
                one, clock.state_of(track, one), clock.promise_of(track, one, now_unix_ms)
            )
            for one in track.releases
        )
        return Tracked(track, releases, self._asked_unix_ms.get(track.upstream, 0))


def _name_of(ref: UpstreamRef, account_id: str) -> str:
    owner, _, name = ref.repository.partition("/")
    return f"{account_id or re.sub('[^a-z0-9_.-]', '-', owner.lower())[:64]}/{name[:96]}"


def _unreported(_: Progress) -> None:
    """Take the progress that nobody watches."""
