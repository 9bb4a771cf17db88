"""The code table of the house style, compared with the classes."""

from __future__ import annotations

import grpc
import pytest

from protos.domain import errors
from protos.domain.errors import ConfigInvalid, EdgeForgeError, InvalidRequest, Overloaded

TABLE = [
    (errors.InvalidRequest, 400, "INVALID_ARGUMENT", False),
    (errors.Unauthenticated, 401, "UNAUTHENTICATED", False),
    (errors.Forbidden, 403, "PERMISSION_DENIED", False),
    (errors.NotFound, 404, "NOT_FOUND", False),
    (errors.RequestTimeout, 408, "DEADLINE_EXCEEDED", False),
    (errors.Conflict, 409, "ABORTED", True),
    (errors.TooLarge, 413, "RESOURCE_EXHAUSTED", False),
    (errors.UnsupportedEncoding, 415, "INVALID_ARGUMENT", False),
    (errors.Misdirected, 421, "FAILED_PRECONDITION", False),
    (errors.HeadersTooLarge, 431, "RESOURCE_EXHAUSTED", False),
    (errors.Overloaded, 429, "RESOURCE_EXHAUSTED", True),
    (errors.BudgetUnreachable, 429, "RESOURCE_EXHAUSTED", True),
    (errors.RateLimited, 429, "RESOURCE_EXHAUSTED", True),
    (errors.InsufficientQuota, 429, "RESOURCE_EXHAUSTED", False),
    (errors.EngineFailed, 502, "INTERNAL", True),
    (errors.NoReplica, 503, "UNAVAILABLE", True),
    (errors.LinkDown, 503, "UNAVAILABLE", True),
    (errors.StoreUnavailable, 503, "UNAVAILABLE", True),
    (errors.StorageFull, 503, "UNAVAILABLE", True),
    (errors.DeadlineExceeded, 504, "DEADLINE_EXCEEDED", True),
    (errors.ConfigInvalid, 500, "INTERNAL", False),
    (errors.NoEngineEnvironment, 500, "INTERNAL", False),
]


@pytest.mark.parametrize(("kind", "http", "code", "retryable"), TABLE)
def test_codes(kind, http, code, retryable):
    error = kind(["x"]) if issubclass(kind, ConfigInvalid) else kind("x")
    assert (error.http_status, error.grpc_code, error.retryable) == (http, code, retryable)
    assert grpc.StatusCode[error.grpc_code]


def test_no_error_is_missing_from_the_table():
    declared = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, EdgeForgeError)
    }
    assert declared - {EdgeForgeError} == {row[0] for row in TABLE}


def test_every_error_has_a_summary():
    assert all(row[0].__doc__ for row in TABLE)


def test_an_error_shows_its_next_step():
    assert str(InvalidRequest("no model", "add one")) == "no model (add one)"
    assert str(InvalidRequest("no model")) == "no model"


def test_an_instance_may_override_its_class():
    error = Overloaded("full", retryable=False, code="queue_full", retry_after_s=2.0, param="n")
    assert (error.retryable, error.code, error.retry_after_s, error.param) == (
        False,
        "queue_full",
        2.0,
        "n",
    )
    assert Overloaded("full").code == "overloaded"


def test_every_mistake_of_a_configuration_is_named():
    error = ConfigInvalid(["a is missing", "b is not a port"])
    assert error.problems == ["a is missing", "b is not a port"]
    assert "a is missing" in str(error)
    assert "b is not a port" in str(error)
    assert error.exit_code == 78
