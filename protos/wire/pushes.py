"""Conversion of the fleet stream's table messages: versions held, snapshots and deltas."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from protos.domain.routing_table import (
    ROWS_PER_STEP,
    Delta,
    Snapshot,
    Table,
    TableVersion,
    digest_from_bytes,
    digest_to_bytes,
    run_to_end,
)
from protos.v1 import fleet_pb2
from protos.wire.enums import TYPE_TO_WIRE, resource_type_from_wire


def have_to_wire(table: Table) -> fleet_pb2.Have:
    return fleet_pb2.Have(
        type=TYPE_TO_WIRE[table.type],
        epoch=table.at.epoch,
        version=table.at.version,
        digest=digest_to_bytes(table.digest),
    )


def snapshot_from_wire(message: fleet_pb2.Snapshot) -> Snapshot:
    """Raises: InvalidRequest for a type this version does not know."""
    return run_to_end(snapshot_from_wire_steps(message))


def snapshot_from_wire_steps(message: fleet_pb2.Snapshot) -> Generator[None, None, Snapshot]:
    """Like ``snapshot_from_wire``, pausing every ROWS_PER_STEP rows."""
    return Snapshot(
        type=resource_type_from_wire(message.type),
        at=TableVersion(message.epoch, message.version),
        rows=(yield from _rows_steps(message.rows)),
        digest=digest_from_bytes(message.digest),
        forced=message.forced,
    )


def snapshot_to_wire(snapshot: Snapshot, nonce: int) -> fleet_pb2.Snapshot:
    return fleet_pb2.Snapshot(
        type=TYPE_TO_WIRE[snapshot.type],
        epoch=snapshot.at.epoch,
        version=snapshot.at.version,
        rows=[fleet_pb2.Row(key=key, payload=row) for key, row in snapshot.rows.items()],
        digest=digest_to_bytes(snapshot.digest),
        nonce=nonce,
        forced=snapshot.forced,
    )


def delta_from_wire(message: fleet_pb2.Delta) -> Delta:
    """Raises: InvalidRequest for a type this version does not know."""
    return run_to_end(delta_from_wire_steps(message))


def delta_from_wire_steps(message: fleet_pb2.Delta) -> Generator[None, None, Delta]:
    """Like ``delta_from_wire``, pausing every ROWS_PER_STEP rows."""
    return Delta(
        type=resource_type_from_wire(message.type),
        epoch=message.epoch,
        from_version=message.from_version,
        to_version=message.to_version,
        upserts=(yield from _rows_steps(message.upserts)),
        removes=tuple(message.removes),
        result_digest=digest_from_bytes(message.result_digest),
        forced=message.forced,
    )


def delta_to_wire(delta: Delta, nonce: int) -> fleet_pb2.Delta:
    return fleet_pb2.Delta(
        type=TYPE_TO_WIRE[delta.type],
        epoch=delta.epoch,
        from_version=delta.from_version,
        to_version=delta.to_version,
        upserts=[fleet_pb2.Row(key=key, payload=row) for key, row in delta.upserts.items()],
        removes=delta.removes,
        result_digest=digest_to_bytes(delta.result_digest),
        nonce=nonce,
        forced=delta.forced,
    )


def _rows_steps(rows: Iterable[fleet_pb2.Row]) -> Generator[None, None, dict[str, bytes]]:
    found: dict[str, bytes] = {}
    for count, row in enumerate(rows, start=1):
        found[row.key] = row.payload
        if count % ROWS_PER_STEP == 0:
            yield
    return found
