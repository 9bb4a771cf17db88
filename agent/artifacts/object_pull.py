"""One object's pull: does what the planner decides, until every file has its name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.artifacts.piece_file import PieceFile
from agent.artifacts.sources import WrongPiece
from agent.core.chunk_planner import Abandon, ChunkPlanner, Fetch, Rank
from agent.core.piece_swarm import have_of_files, own_share
from agent.tasks import to_end
from protos.domain.errors import EdgeForgeError, LinkDown, NotFound, StoreUnavailable
from protos.domain.pieces import piece_span

if TYPE_CHECKING:
    from agent.artifacts.means import Means
    from protos.domain.resources import ModelFile

_log = logging.getLogger(__name__)

ORIGIN = "origin"
#: How long peers may take to say what they have before a pull begins without their answer.
_FIRST_ANSWERS_S = 0.5
#: How often peers are asked what they have by now, how many of them, and how many pieces must be
#: known to be at peers so that none is asked.
_REFRESH_S = 0.3
_ASKED_AT_ONCE = 6
_ENOUGH_AT_HAND = 8
#: An origin that sends nothing for so long has failed.
_ORIGIN_SILENT_S = 30.0
#: Between two attempts to write to a full disk.
_DISK_PAUSE_S = 2.0
#: The origin's failures in a row, without a piece from anywhere, after which a pull gives up.
_MAX_FAILURES = 4


@dataclass(slots=True)
class _FileInPull:
    """A file and where its pieces are among the object's."""

    file: ModelFile
    on_disk: PieceFile
    first: int
    count: int
    published: bool = False

    @property
    def bits(self) -> int:
        return ((1 << self.count) - 1) << self.first


class ObjectPull:
    """Pulls ``files`` of the object ``name``: those that are in pieces, or are one piece.

    ``publish`` gives a complete file its name; ``trouble`` is empty, or why the pull waits.
    """

    def __init__(
        self,
        name: str,
        means: Means,
        *,
        publish: Callable[[ModelFile, PieceFile], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.name = name
        self._means = means
        self._publish = publish
        self._on_trouble = on_trouble
        self._files: list[_FileInPull] = []
        self._fetching: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._answered = asyncio.Event()
        self._asked_mono_ms: dict[str, float] = {}
        #: Nodes that hold or pull the object too.
        self._members: set[str] = set()
        #: Until the second round: those that may begin to pull it now.
        self._expected: set[str] = set()
        self._fault: EdgeForgeError | None = None
        self._last_wrong: WrongPiece | None = None
        self._failures = 0
        self._paused_until_s = 0.0
        self.verified_bytes = 0
        self._planned: ChunkPlanner | None = None

    def have_of(self, sha256: bytes) -> int:
        """Return the verified pieces of a file of this pull, as bits."""
        for one in self._files:
            if one.file.sha256 == sha256 and self._planned is not None:
                return ~(self._planned.missing >> one.first) & ((1 << one.count) - 1)
        return 0

    async def run(self, files: list[ModelFile], digests: list[list[bytes]], folder: Path) -> None:
        """Pull until every file is published. Raises: EdgeForgeError, OSError.

        ``digests`` are those of each file's pieces; unfinished files are kept in ``folder``.
        """
        try:
            have = await self._open(files, digests, folder)
            self._plan(have)
            async with asyncio.TaskGroup() as group:
                refreshing = group.create_task(self._refresh())
                group.create_task(self._drive(refreshing))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several
        finally:
            tasks = list(self._fetching.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._planned is not None:
                for fetch in self._planned.asked:
                    self._planned.put_back(fetch.piece)
            for one in self._files:
                one.on_disk.close()

    async def _open(self, files: list[ModelFile], digests: list[list[bytes]], folder: Path) -> int:
        first = have = 0
        for file, of_file in zip(files, digests, strict=True):
            on_disk = PieceFile(folder / file.sha256.hex(), file.size_bytes, of_file)
            have |= await asyncio.to_thread(on_disk.open) << first
            self._files.append(_FileInPull(file, on_disk, first, len(of_file)))
            first += len(of_file)
        return have

    def _plan(self, have: int) -> None:
        means = self._means
        sizes = [
            piece_span(index, one.file.size_bytes)[1]
            for one in self._files
            for index in range(one.count)
        ]
        self._planned = ChunkPlanner(
            sizes,
            ((1 << len(sizes)) - 1) & ~have,
            means.policy,
            means.budget,
            first=int(means.draw() * len(sizes)),
            now_mono_ms=means.now_mono_ms(),
        )
        self._planner.source_found(ORIGIN, Rank.ORIGIN, (1 << len(sizes)) - 1)
        self.verified_bytes = sum(size for n, size in enumerate(sizes) if have >> n & 1)

    @property
    def _planner(self) -> ChunkPlanner:
        assert self._planned is not None
        return self._planned

    # -- peers -----------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Keep asking peers what they have, until cancelled: all at first, then some at a time.

        Nobody is asked while the next pieces are known to be somewhere: many nodes that pull at
        the same time would otherwise spend their time on questions.
        """
        most = 1_000
        while True:
            if self._planner.at_hand(self._means.now_mono_ms()) < _ENOUGH_AT_HAND:
                await self._ask_peers(most)
                most = _ASKED_AT_ONCE
                self._answered.set()
                self._wake.set()
            self._share(self._members)
            await asyncio.sleep(_REFRESH_S)
            self._expected.clear()

    async def _ask_peers(self, most: int) -> None:
        """Ask those that were not asked for longest, and take each answer when it comes."""
        means, planner = self._means, self._planner
        now_mono_ms = means.now_mono_ms()
        nodes = {
            node_id: rank
            for node_id, rank in means.peers.candidates(self.name).items()
            if means.struck.get((self.name, node_id), 0.0) <= now_mono_ms
        }
        for gone in planner.sources.keys() - nodes.keys() - {ORIGIN}:
            self._members.discard(gone)
            for abandoned in planner.source_lost(gone):
                self._cancel(abandoned)
        oldest = sorted(nodes, key=lambda node_id: self._asked_mono_ms.get(node_id, 0.0))
        async with asyncio.TaskGroup() as group:
            for node_id in oldest[:most]:
                self._asked_mono_ms[node_id] = now_mono_ms
                group.create_task(self._ask(node_id, nodes[node_id]))

    async def _ask(self, node_id: str, rank: Rank) -> None:
        """Ask one node; one that does not answer keeps what it is known to have."""
        try:
            haves = await self._means.peers.pieces_of(node_id, self.name)
        except TimeoutError:
            return  # it may be busy
        except EdgeForgeError as error:
            self._members.discard(node_id)
            if isinstance(error, NotFound) and not self._answered.is_set():
                self._expected.add(node_id)  # ordered at the same time: it may begin later
            self._share(self._members)
            return
        files = [(one.file.sha256.hex(), one.count) for one in self._files]
        self._planner.source_found(node_id, rank, have_of_files(files, haves))
        self._members.add(node_id)
        self._share(self._members)
        self._wake.set()

    def _share(self, members: set[str]) -> None:
        """Share the origin with those that pull too, unless there is little to share."""
        planner = self._planner
        members = {one for one in members if planner.is_good(one)} | self._expected
        if members and len(planner.sizes) > planner.policy.max_in_flight:
            here = self._means.peers.here
            planner.own_share = own_share(here, members, len(planner.sizes), self.name)
        else:
            planner.own_share = -1

    # -- pieces ----------------------------------------------------------------------------------

    async def _drive(self, refreshing: asyncio.Task[None]) -> None:
        means, planner = self._means, self._planner
        if means.peers.candidates(self.name):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_ANSWERS_S):
                    await self._answered.wait()
        while True:
            # Before the look, which takes time: what arrives meanwhile is to be seen at once.
            self._wake.clear()
            if await self._finished():
                break
            now_mono_ms = means.now_mono_ms()
            if now_mono_ms >= self._paused_until_s * 1_000:
                for command in planner.next_commands(now_mono_ms, means.draw()):
                    if isinstance(command, Abandon):
                        self._cancel(command)
                    else:
                        self._begin(command)
            deadline_ms = max(planner.next_deadline_ms(now_mono_ms), self._paused_until_s * 1_000)
            try:
                async with asyncio.timeout(max(0.01, (deadline_ms - now_mono_ms) / 1_000)):
                    await self._wake.wait()
            except TimeoutError:
                continue
        refreshing.cancel()

    async def _finished(self) -> bool:
        """Publish what is complete; return whether all is. Raises: what ends the pull."""
        if self._last_wrong is not None and self._planner.hopeless():
            raise self._last_wrong
        if self._fault is not None:
            raise self._fault
        missing = self._planner.missing
        for one in self._files:
            if not one.published and not missing & one.bits:
                await to_end(partial(self._publish, one.file, one.on_disk))
                one.published = True
        return not missing

    def _begin(self, fetch: Fetch) -> None:
        key = (fetch.source, fetch.piece)
        task = asyncio.get_running_loop().create_task(self._fetch(fetch))
        self._fetching[key] = task
        task.add_done_callback(lambda _: self._fetching.pop(key, None))

    def _cancel(self, abandon: Abandon) -> None:
        self._means.stats.abandoned += 1
        task = self._fetching.pop((abandon.source, abandon.piece), None)
        if task is not None:
            task.cancel()

    async def _fetch(self, fetch: Fetch) -> None:
        """Fetch one piece, and tell the planner how it went."""
        means, planner = self._means, self._planner
        one = next(f for f in self._files if f.first <= fetch.piece < f.first + f.count)
        index = fetch.piece - one.first
        size_bytes = planner.sizes[fetch.piece]
        try:
            if fetch.source == ORIGIN:
                await self._fetch_from_origin(one, index, size_bytes)
            else:
                await means.peers.fetch(
                    fetch.source,
                    self.name,
                    one.file.sha256,
                    index,
                    size_bytes,
                    lambda data, digest: one.on_disk.accept(index, data, digest),
                )
        except WrongPiece as wrong:
            self._was_wrong(fetch, wrong)
        except NotFound as error:
            if fetch.source == ORIGIN:
                self._failed(fetch, error)
            else:
                planner.not_there(fetch.piece)
        except EdgeForgeError as error:
            self._failed(fetch, error)
        except OSError as error:
            self._disk_failed(fetch, error)
        else:
            self._arrived(fetch, size_bytes)
        self._wake.set()

    async def _fetch_from_origin(self, one: _FileInPull, index: int, size_bytes: int) -> None:
        offset_bytes, _ = piece_span(index, one.file.size_bytes)
        data = bytearray()
        parts = self._means.origin.fetch(one.file.sha256, offset_bytes, size_bytes)
        try:
            async with asyncio.timeout(_ORIGIN_SILENT_S) as limit:
                async for part in parts:
                    data += part
                    limit.reschedule(asyncio.get_running_loop().time() + _ORIGIN_SILENT_S)
        except TimeoutError as late:
            raise LinkDown(f"the coordinator sent nothing for {_ORIGIN_SILENT_S:.0f} s") from late
        if len(data) < size_bytes:
            raise LinkDown(f"{one.file.path}: {len(data)} of {size_bytes} bytes of a piece came")

        def write() -> None:
            with memoryview(data) as view:
                one.on_disk.accept(index, view, hashlib.sha256(view).digest())

        await to_end(write)

    def _arrived(self, fetch: Fetch, size_bytes: int) -> None:
        stats = self._means.stats
        self._planner.arrived(fetch.piece, self._means.now_mono_ms())
        self._failures = 0
        self._on_trouble("")
        self.verified_bytes += size_bytes
        stats.pulled_bytes += size_bytes
        if fetch.source == ORIGIN:
            stats.origin_bytes += size_bytes
        else:
            stats.peer_bytes += size_bytes

    def _was_wrong(self, fetch: Fetch, wrong: WrongPiece) -> None:
        means, planner = self._means, self._planner
        now_mono_ms = means.now_mono_ms()
        means.stats.wrong_pieces += 1
        planner.was_wrong(fetch.piece, now_mono_ms)
        if fetch.source != ORIGIN:
            means.struck[self.name, fetch.source] = now_mono_ms + means.policy.struck_ms
        _log.warning(
            "wrong bytes object=%s source=%s piece=%d", self.name, fetch.source, fetch.piece
        )
        self._last_wrong = wrong

    def _failed(self, fetch: Fetch, error: EdgeForgeError) -> None:
        means = self._means
        retry_after_ms = (error.retry_after_s or 0.0) * 1_000
        self._planner.failed(fetch.piece, means.now_mono_ms(), means.draw(), retry_after_ms)
        _log.info("piece not pulled object=%s source=%s: %s", self.name, fetch.source, error)
        if fetch.source == ORIGIN:
            self._failures += 1
            if self._failures >= _MAX_FAILURES or not error.retryable:
                self._fault = error

    def _disk_failed(self, fetch: Fetch, error: OSError) -> None:
        """Wait for space: a full disk is not the source's fault, and no pull ends by it."""
        self._planner.put_back(fetch.piece)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            self._fault = StoreUnavailable(f"{self.name} cannot be written: {error.strerror}")
            return
        self._paused_until_s = self._means.now_mono_ms() / 1_000 + _DISK_PAUSE_S
        left_bytes = sum(
            size for n, size in enumerate(self._planner.sizes) if self._planner.missing >> n & 1
        )
        self._on_trouble(
            f"the disk is full: {self.name} needs {left_bytes} more bytes; its pull goes on by"
            " itself when there is space"
        )
