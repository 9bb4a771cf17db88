"""Imports from another hub, and the adoption clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coordinator.operations.upstream_imports import NewImport
from coordinator.rpc.admin_base import AdminServicerBase
from protos.domain.resources import Adapter, Runtime
from protos.v1 import adoption_pb2, adoption_pb2_grpc

if TYPE_CHECKING:
    from coordinator.operations.adoption import Tracked
    from coordinator.operations.upstream import Progress
    from coordinator.operations.upstream_imports import Imported
    from coordinator.rpc.identity import Context

#: Most often that progress is sent.
_REPORT_S = 0.5


class AdoptionService(AdminServicerBase, adoption_pb2_grpc.AdoptionServicer):
    """Every call of ``adoption.proto``: a request, a use case, a message."""

    async def ImportUpstream(
        self, request: adoption_pb2.ImportUpstreamRequest, context: Context
    ) -> AsyncIterator[adoption_pb2.ImportUpstreamProgress]:
        """Download, check and publish; ends when its caller does."""
        actor = self._actor(context)
        latest: list[Progress] = []
        new = NewImport(request.upstream, request.name, request.account_id, request.base)

        def report(progress: Progress) -> None:
            latest[:] = [progress]

        run = asyncio.get_running_loop().create_task(
            self._operations.upstream_imports.run(actor, request.name, new, report)
        )
        try:
            while not run.done():
                await asyncio.wait({run}, timeout=_REPORT_S)
                if latest and not run.done():
                    now = latest.pop()
                    yield adoption_pb2.ImportUpstreamProgress(
                        stage=now.stage,
                        received_bytes=now.received_bytes,
                        total_bytes=now.total_bytes,
                    )
            yield adoption_pb2.ImportUpstreamProgress(done=_imported(run.result()))
        finally:
            if not run.done():
                run.cancel()
                await asyncio.wait({run})

    async def SetUpstreamToken(
        self, request: adoption_pb2.SetUpstreamTokenRequest, context: Context
    ) -> adoption_pb2.SetUpstreamTokenResponse:
        """Keep or forget the token of an owner."""
        imports = self._operations.upstream_imports
        await imports.set_token(self._actor(context), request.owner, request.token)
        return adoption_pb2.SetUpstreamTokenResponse()

    async def TrackUpstream(
        self, request: adoption_pb2.TrackUpstreamRequest, context: Context
    ) -> adoption_pb2.UpstreamTrack:
        """Track a repository."""
        tracked = await self._operations.adoption.track(
            self._actor(context), request.upstream, name=request.name, account_id=request.account_id
        )
        return _track(tracked)

    async def ListTracks(
        self, request: adoption_pb2.ListTracksRequest, context: Context
    ) -> adoption_pb2.ListTracksResponse:
        """Return every track."""
        found = await self._operations.adoption.list_all(self._actor(context))
        return adoption_pb2.ListTracksResponse(tracks=map(_track, found))

    async def UntrackUpstream(
        self, request: adoption_pb2.UntrackUpstreamRequest, context: Context
    ) -> adoption_pb2.UntrackUpstreamResponse:
        """Track a repository no longer."""
        await self._operations.adoption.untrack(self._actor(context), request.upstream)
        return adoption_pb2.UntrackUpstreamResponse()

    async def ShowHub(
        self, request: adoption_pb2.ShowHubRequest, context: Context
    ) -> adoption_pb2.ShowHubResponse:
        """Return where the registry answers the hub's protocol."""
        place = await self._operations.repositories.place(self._actor(context))
        return adoption_pb2.ShowHubResponse(endpoint=place[0], own_authority=place[1])


def _imported(done: Imported) -> adoption_pb2.ImportedObject:
    row = done.object.row
    assert not isinstance(row, Runtime)
    return adoption_pb2.ImportedObject(
        name=row.name,
        kind="adapter" if isinstance(row, Adapter) else "model",
        revision=done.object.revision,
        upstream_commit=done.commit,
        licence=done.object.publication.licence,
        size_bytes=sum(file.size_bytes for file in done.object.files),
        left_out=done.left_out,
        is_new=done.is_new,
    )


def _track(tracked: Tracked) -> adoption_pb2.UpstreamTrack:
    track = tracked.track
    return adoption_pb2.UpstreamTrack(
        upstream=track.upstream,
        name=track.name,
        account_id=track.account_id,
        tracked_by=track.tracked_by,
        tracked_unix_ms=track.tracked_unix_ms,
        error=track.error,
        asked_unix_ms=tracked.asked_unix_ms,
        releases=[
            adoption_pb2.UpstreamRelease(
                commit=one.release.commit,
                state=one.state,
                seen_unix_ms=one.release.seen_unix_ms,
                imported_unix_ms=one.release.imported_unix_ms,
                qualified_unix_ms=one.release.qualified_unix_ms,
                available_unix_ms=one.release.available_unix_ms,
                deadline_unix_ms=one.release.deadline_unix_ms,
                promise=one.promise,
                object=one.release.name,
                tokens_per_s=one.release.tokens_per_s,
                first_token_ms=one.release.first_token_ms,
                error=one.release.error,
            )
            for one in tracked.releases
        ],
    )
