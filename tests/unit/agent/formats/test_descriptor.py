"""What holds for every format, whatever its words."""

from __future__ import annotations

import json

import pytest

from agent.formats import FORMATS, ApiFormat
from protos.domain.errors import NoReplica, Overloaded

EVERY_FORMAT = pytest.mark.parametrize("api", FORMATS.values(), ids=list(FORMATS))


@EVERY_FORMAT
def test_a_heartbeat_is_one_event_that_its_own_reader_passes_and_takes_for_no_progress(
    api: ApiFormat,
) -> None:
    assert api.heartbeat.endswith(b"\n\n")
    assert api.heartbeat.count(b"\n\n") == 1
    events = api.event_stream(include_usage=True, continuous_usage=True)
    if api.generates:
        assert events.feed(api.heartbeat) == api.heartbeat
    assert not events.token_seen
    assert not events.progress_seen
    assert events.events == 0
    assert not events.done


@EVERY_FORMAT
def test_errors_are_json_with_a_message_as_responses_and_as_events(api: ApiFormat) -> None:
    status, headers, body = api.render_error(Overloaded("busy", "wait", retry_after_s=2.5))
    assert status == 429
    assert dict(headers)[b"retry-after"] == b"3"
    assert json.loads(body)["error"]["message"] == "busy. wait."
    data = api.error_event(NoReplica("gone"), 3).partition(b"\ndata: ")[2]
    assert json.loads(data)["error"]["message"] == "gone"
    assert api.render_error(NoReplica("m"), 418)[0] == 418


@EVERY_FORMAT
def test_a_format_without_a_continuation_never_offers_one(api: ApiFormat) -> None:
    fields: dict[str, object] = {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    stream = api.continuable_stream(fields, include_usage=False, continuous_usage=False)
    assert (stream is not None) is (api.continuation is not None)
    if api.continuation is None:
        assert api.continued(fields, "text", 1) is None


@EVERY_FORMAT
def test_a_prompt_has_a_size_and_a_prefix_whatever_its_fields_hold(api: ApiFormat) -> None:
    for value in (None, 7, "x", [], {}, [[1]], [None]):
        fields = dict.fromkeys({*api.prefix_fields, *api.size_fields}, value)
        assert api.estimate_prompt_tokens(fields) >= 1
        assert isinstance(api.prompt_prefix(fields), bytes)
