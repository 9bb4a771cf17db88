"""The one party of a certificate, whatever else stands in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.domain.errors import Unauthenticated
from protos.domain.party import Party, PartyKind, node_of, party_of

NODE, OPERATOR = "edgeforge://node/gru-1", "edgeforge://operator/ana"


@pytest.mark.parametrize(
    ("uri", "party"),
    [
        (NODE, Party(PartyKind.NODE, "gru-1")),
        (OPERATOR, Party(PartyKind.OPERATOR, "ana")),
        ("edgeforge://coordinator/main", Party(PartyKind.COORDINATOR, "main")),
    ],
)
def test_a_certificate_with_one_name_is_that_party(uri: str, party: Party) -> None:
    assert party_of(["spiffe://x/y", uri, "https://node/gru-1"]) == party
    assert f"edgeforge://{party}" == uri


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("https://node/gru-1",),
        (NODE, OPERATOR),
        (OPERATOR, NODE),
        (NODE, "edgeforge://node/iad-1"),
        (NODE, NODE),
        (NODE, "edgeforge:other"),
        (NODE, "EdgeForge://operator/ana"),
        (NODE, "edgeforge://king/ana"),
        ("EDGEFORGE://node/gru-1",),
        ("edgeforge:node/gru-1",),
        ("edgeforge:///node/gru-1",),
        ("edgeforge://king/ana",),
        ("edgeforge://node",),
        ("edgeforge://node/",),
        ("edgeforge://node/gru-1/x",),
        ("edgeforge://node/gru-1?x=1",),
        ("edgeforge://node/gru-1#x",),
        ("edgeforge://ana@node/gru-1",),
        ("edgeforge://node:1/gru-1",),
        ("edgeforge://node/NOT-A-NODE",),
        ("edgeforge://node/gru-1\0",),
        ("edgeforge://node/gru-1\n",),
        ("edgeforge://operator/Ana%20",),
    ],
)
def test_a_certificate_with_two_names_or_none_or_a_misspelt_one_is_refused(
    uris: tuple[str, ...],
) -> None:
    with pytest.raises(Unauthenticated):
        party_of(uris)


def test_an_operator_is_no_node() -> None:
    assert node_of([NODE]) == "gru-1"
    with pytest.raises(Unauthenticated, match="operator/ana"):
        node_of([OPERATOR])


@given(st.lists(st.sampled_from([NODE, OPERATOR, "spiffe://x", "edgeforge:"]) | st.text()))
def test_any_names_are_one_party_or_refused(uris: list[str]) -> None:
    own = [uri for uri in uris if uri.lower().startswith("edgeforge:")]
    try:
        party = party_of(uris)
    except Unauthenticated:
        assert len(own) != 1 or own[0] not in (NODE, OPERATOR)
    else:
        assert own == [f"edgeforge://{party}"]
