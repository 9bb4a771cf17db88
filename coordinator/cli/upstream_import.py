"""``hf://org/repo[@rev]`` as the path of an import: the coordinator fetches it."""

from __future__ import annotations

from coordinator.cli.common import admin
from coordinator.cli.output import as_json
from protos.domain.errors import EdgeForgeError, InvalidRequest
from protos.output.terminal import StatusLine, print_json, print_line, print_progress
from protos.v1 import adoption_pb2

_SCHEME = "hf://"
_MIB = 1024**2
#: Fetching 64 GiB at 10 MB a second, and checking it.
_IMPORT_TIMEOUT_S = 8_000.0


def is_upstream(path: str) -> bool:
    """Return whether a path names a repository of another hub."""
    return path.startswith(_SCHEME)


def refuse_options(**options: object) -> None:
    """Refuse options that an import from another hub does not have. Raises: InvalidRequest."""
    for name, value in options.items():
        if value:
            raise InvalidRequest(
                f"--{name.replace('_', '-')} is for files of this machine",
                "leave it out: it follows from what is imported",
            )


def import_upstream(
    upstream: str, name: str, account: str, base: str, *, json_output: bool
) -> None:
    """Have the coordinator import a repository, and show how far it is."""
    request = adoption_pb2.ImportUpstreamRequest(
        upstream=upstream, name=name, account_id=account, base=base
    )
    line, stage, done = StatusLine(), "", None
    with admin() as client:
        for progress in client.import_upstream(request, _IMPORT_TIMEOUT_S):
            if progress.HasField("done"):
                done = progress.done
            elif line.changes or progress.stage != stage:
                stage = progress.stage
                line.show(_picture(upstream, progress))
    if stage:
        line.keep()
    if done is None:
        raise EdgeForgeError(f"the import of {upstream} ended without a result", "run it again")
    for path in done.left_out:
        print_progress(f"left out {path}: no engine reads it, or it may not be imported")
    if json_output:
        print_json(as_json(done) | {"size_bytes": done.size_bytes})
        return
    already = "" if done.is_new else "; it was published already, with the same content"
    print_line(
        f"{done.name}: {done.kind}, {done.size_bytes / _MIB:.0f} MiB of {upstream} at"
        f" {done.upstream_commit[:12]}, revision {done.revision}{already}"
    )


def _picture(upstream: str, progress: adoption_pb2.ImportUpstreamProgress) -> str:
    text = f"{upstream}: {progress.stage}"
    if progress.total_bytes:
        received, total = progress.received_bytes / _MIB, progress.total_bytes / _MIB
        text += f", {received:.1f} of {total:.1f} MiB"
    return text
