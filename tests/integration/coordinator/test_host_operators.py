"""Operators made on the coordinator's host: by `init`, by an earlier version, by a reset."""

from __future__ import annotations

import pytest

from coordinator.ca.authority import CertificateAuthority
from coordinator.config import parse_config
from coordinator.core.operators import Role
from coordinator.first_run import initialise
from coordinator.host_operators import adopt_operators, reset_operator
from coordinator.rpc.identity import identity_of
from coordinator.store import operators
from coordinator.store.facts import FactType
from coordinator.store.store import Store
from protos.domain.errors import Conflict, InvalidRequest, NotFound
from tests.support.stores import SetClock, audited

DAY_MS = 24 * 3_600_000


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
async def config(tmp_path, clock):
    config = parse_config({"coordinator": {"state_dir": "state"}}, {}, base=tmp_path)
    await initialise(config, "ana", now_unix_ms=clock)
    return config


def open_store(config, clock):
    return Store.open(config.database, now_unix_ms=clock, must_exist=True)


def certificate(config, name="ana"):
    return identity_of((config.operators_dir / name / "cert.pem").read_bytes())


async def adopted(config, clock):
    """Serve a database without operators, and return those it has then."""
    store = await open_store(config, clock)
    try:
        await store.write(lambda tx: [
            tx.remove_fact(FactType.OPERATOR, name) for name in tx.keys(FactType.OPERATOR)
        ])  # fmt: skip
        assert store.operators() == {}
        authority = CertificateAuthority.load(config.ca_dir, now_unix_ms=clock)
        await adopt_operators(config, store, authority, clock)
        return dict(store.operators())
    finally:
        await store.close()


async def test_init_writes_the_row_of_the_first_admin(config, clock):
    store = await open_store(config, clock)
    try:
        ana = store.operators()["ana"]
    finally:
        await store.close()
    assert (ana.role, ana.invited_by) == (Role.ADMIN, "coordinator")
    assert ana.admits(certificate(config).public_key_sha256)


async def test_a_database_of_an_earlier_version_admits_the_certificate_that_init_made(
    config, clock
):
    ana = (await adopted(config, clock))["ana"]
    assert ana.role is Role.ADMIN
    assert ana.admits(certificate(config).public_key_sha256)


async def test_a_certificate_of_another_authority_or_an_expired_one_is_not_adopted(
    config, clock, tmp_path, caplog
):
    stranger = CertificateAuthority.create(tmp_path / "stranger", now_unix_ms=clock)
    (config.operators_dir / "mallory").mkdir()
    (config.operators_dir / "mallory/cert.pem").write_bytes(stranger.new_operator("mallory")[1].pem)
    (config.operators_dir / "torn").mkdir()
    (config.operators_dir / "torn/cert.pem").write_bytes(b"-----BEGIN")
    assert set(await adopted(config, clock)) == {"ana"}
    clock.unix_ms += 61 * DAY_MS
    assert await adopted(config, clock) == {}
    assert "edgeforge-coordinator operator reset" in caplog.text


async def test_operators_that_are_there_are_not_added_to(config, clock):
    store = await open_store(config, clock)
    try:
        authority = CertificateAuthority.load(config.ca_dir, now_unix_ms=clock)
        folder = config.operators_dir / "bo"
        folder.mkdir()
        (folder / "cert.pem").write_bytes(authority.new_operator("bo")[1].pem)
        await adopt_operators(config, store, authority, clock)
        assert set(store.operators()) == {"ana"}
    finally:
        await store.close()


async def test_a_reset_makes_an_admin_whose_files_work_and_leaves_the_others(config, clock):
    profile = await reset_operator(config, "bo", now_unix_ms=clock)
    store = await open_store(config, clock)
    try:
        bo = store.operators()["bo"]
        assert (bo.role, bo.admits(certificate(config, "bo").public_key_sha256)) == (
            Role.ADMIN,
            True,
        )
        assert store.operators()["ana"].admits(certificate(config).public_key_sha256)
        (entry,) = await audited(store, 1)
        assert (entry.note.actor, entry.note.action) == ("coordinator", "operator.reset")
    finally:
        await store.close()
    assert profile == config.operators_dir / "bo/profile.toml"
    assert {one.name for one in config.operators_dir.iterdir()} == {"ana", "bo"}


async def test_a_reset_of_a_revoked_name_lets_the_old_key_in_no_more(config, clock):
    old = certificate(config).public_key_sha256
    await reset_operator(config, "bo", now_unix_ms=clock)
    store = await open_store(config, clock)
    await store.write(operators.revoke("ana"))
    await store.close()
    await reset_operator(config, "ana", now_unix_ms=clock)
    store = await open_store(config, clock)
    try:
        ana = store.operators()["ana"]
        assert not ana.admits(old)
        assert ana.admits(certificate(config).public_key_sha256)
    finally:
        await store.close()


async def test_a_reset_beside_a_running_coordinator_is_refused_and_changes_nothing(config, clock):
    store = await open_store(config, clock)
    try:
        with pytest.raises(Conflict, match="another coordinator is running"):
            await reset_operator(config, "bo", now_unix_ms=clock)
    finally:
        await store.close()
    assert {one.name for one in config.operators_dir.iterdir()} == {"ana"}


async def test_a_reset_before_init_or_of_no_name_is_refused(config, clock, tmp_path):
    with pytest.raises(InvalidRequest):
        await reset_operator(config, "No Name", now_unix_ms=clock)
    empty = parse_config({"coordinator": {"state_dir": "none"}}, {}, base=tmp_path)
    with pytest.raises(NotFound):
        await reset_operator(empty, "bo", now_unix_ms=clock)
