"""``hf://`` as the path of an import: the coordinator fetches, the command line shows."""

from __future__ import annotations

import contextlib
import json

import pytest

from coordinator.cli import upstream_import
from protos.domain.errors import EdgeForgeError, InvalidRequest
from protos.v1 import adoption_pb2

Progress = adoption_pb2.ImportUpstreamProgress
DONE = Progress(
    done=adoption_pb2.ImportedObject(
        name="acme/m@1",
        kind="model",
        revision="a" * 40,
        upstream_commit="c" * 40,
        size_bytes=3 * 1024**2,
        left_out=["pytorch_model.bin"],
        is_new=True,
    )
)
FETCHED = [
    Progress(stage="downloading", received_bytes=1024**2, total_bytes=3 * 1024**2),
    Progress(stage="downloading", received_bytes=2 * 1024**2, total_bytes=3 * 1024**2),
    Progress(stage="checking"),
]


class ClientDouble:
    def __init__(self, messages):
        self.messages, self.asked = messages, []

    def import_upstream(self, request, timeout_s):
        self.asked.append(request)
        yield from self.messages


@pytest.fixture
def run(monkeypatch):
    def running(messages, *, json_output=False):
        client = ClientDouble(messages)

        @contextlib.contextmanager
        def admin():
            yield client

        monkeypatch.setattr(upstream_import, "admin", admin)
        upstream_import.import_upstream(
            "hf://org/m", "acme/m@1", "acme", "", json_output=json_output
        )
        return client

    return running


def test_what_was_imported_and_left_out_is_said(run, capsys):
    client = run([*FETCHED, DONE])
    assert (client.asked[0].upstream, client.asked[0].account_id) == ("hf://org/m", "acme")
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "hf://org/m: downloading, 1.0 of 3.0 MiB",
        "hf://org/m: checking",
        "left out pytorch_model.bin: no engine reads it, or it may not be imported",
    ]
    assert said.out.startswith("acme/m@1: model, 3 MiB of hf://org/m at cccccccccccc, revision aaa")


def test_scripts_get_json(run, capsys):
    run([DONE], json_output=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["size_bytes"], found["is_new"]) == ("acme/m@1", 3 * 1024**2, True)


def test_an_import_without_an_end_is_an_error(run):
    with pytest.raises(EdgeForgeError, match="ended without a result"):
        run(FETCHED)


def test_paths_of_other_hubs_are_told_from_folders():
    assert upstream_import.is_upstream("hf://org/m")
    assert not upstream_import.is_upstream("./hf:/org")
    with pytest.raises(InvalidRequest, match="--context-tokens"):
        upstream_import.refuse_options(context_tokens=5, licence="")
