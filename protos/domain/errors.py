"""The error taxonomy: every failure that a user can get, with its HTTP and gRPC codes.

Raise these anywhere; only ``agent/formats/errors.py`` and the gRPC interceptors translate them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from protos.domain.quota import RateState


class EdgeForgeError(Exception):
    """A failure with a message, a next step, and whether the same call may succeed later."""

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    #: ``error.type`` of the OpenAI error body.
    openai_type: ClassVar[str] = "server_error"
    #: ``error.code`` of the OpenAI error body, unless the instance has its own.
    default_code: ClassVar[str | None] = None
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        retryable: bool | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.code = self.default_code if code is None else code
        self.param = param
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidRequest(EdgeForgeError):
    """The request cannot be parsed or is not allowed in this form."""

    http_status = 400
    grpc_code = "INVALID_ARGUMENT"
    openai_type = "invalid_request_error"


class Unauthenticated(EdgeForgeError):
    """No valid credential was presented."""

    http_status = 401
    grpc_code = "UNAUTHENTICATED"
    openai_type = "invalid_request_error"
    default_code = "invalid_api_key"


class Forbidden(EdgeForgeError):
    """The caller is authenticated and not permitted."""

    http_status = 403
    grpc_code = "PERMISSION_DENIED"
    openai_type = "invalid_request_error"


class NotFound(EdgeForgeError):
    """No such deployment, model, node or route."""

    http_status = 404
    grpc_code = "NOT_FOUND"
    openai_type = "invalid_request_error"


class Conflict(EdgeForgeError):
    """Something else holds the name, or the caller's generation is stale."""

    http_status = 409
    grpc_code = "ABORTED"
    openai_type = "conflict_error"
    default_retryable = True


class TooLarge(EdgeForgeError):
    """A body, header block, table or file is over its limit."""

    http_status = 413
    grpc_code = "RESOURCE_EXHAUSTED"
    openai_type = "invalid_request_error"


class HeadersTooLarge(TooLarge):
    """The request head is over its limit."""

    http_status = 431


class Misdirected(EdgeForgeError):
    """The request may not be read in this agent's zone. Source: RFC 9110, 15.5.20.

    ``in_zone`` has addresses of agents that may, the nearest first; none is known if it is empty.
    """

    http_status = 421
    grpc_code = "FAILED_PRECONDITION"
    openai_type = "invalid_request_error"
    default_code = "outside_residency"
    in_zone: tuple[str, ...] = ()


class UnsupportedEncoding(EdgeForgeError):
    """The body's content encoding is not supported."""

    http_status = 415
    grpc_code = "INVALID_ARGUMENT"
    openai_type = "invalid_request_error"


class RequestTimeout(EdgeForgeError):
    """The client did not finish sending its request in time."""

    http_status = 408
    grpc_code = "DEADLINE_EXCEEDED"
    openai_type = "invalid_request_error"


class Overloaded(EdgeForgeError):
    """A limit on requests in progress is reached."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    openai_type = "rate_limit_error"
    default_code = "overloaded"
    default_retryable = True


class BudgetUnreachable(Overloaded):
    """The deployment is strict and no target is predicted to keep its first-token budget."""

    default_code = "budget_unreachable"


class RateLimited(Overloaded):
    """An account or a key has used what its limit allows."""

    default_code = "rate_limit_exceeded"
    #: The limits a minute of the account and the key, for the headers of the answer.
    limited: tuple[RateState, ...] = ()


class InsufficientQuota(EdgeForgeError):
    """The account's balance or monthly cap does not cover the request."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    openai_type = "insufficient_quota"
    default_code = "insufficient_quota"


class EngineFailed(EdgeForgeError):
    """Every engine that was asked failed."""

    http_status = 502
    grpc_code = "INTERNAL"
    default_code = "engine_failed"
    default_retryable = True


class NoReplica(EdgeForgeError):
    """No engine that may serve this request can do so now."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    default_code = "no_replica"
    default_retryable = True


class LinkDown(EdgeForgeError):
    """The other process cannot be reached."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    default_code = "link_down"
    default_retryable = True


class StoreUnavailable(EdgeForgeError):
    """The database cannot be written now: locked, or its disk is full."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    default_code = "store_unavailable"
    default_retryable = True


class StorageFull(EdgeForgeError):
    """There is no space for the record of one more request, which would be unbilled."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    default_code = "usage_storage_full"
    default_retryable = True


class DeadlineExceeded(EdgeForgeError):
    """The work did not end before its deadline."""

    http_status = 504
    grpc_code = "DEADLINE_EXCEEDED"
    default_code = "deadline_exceeded"
    default_retryable = True


class ConfigInvalid(EdgeForgeError):
    """The configuration has mistakes; ``problems`` names every one. Processes exit with 78."""

    exit_code: ClassVar[int] = 78

    def __init__(self, problems: list[str], hint: str = "") -> None:
        super().__init__("configuration: " + "; ".join(problems), hint)
        self.problems = problems


class NoEngineEnvironment(ConfigInvalid):
    """The configuration needs vLLM, whose virtual environment is not installed."""


#: Code of the refusal of a node that has been removed from its fleet, and only of that.
NODE_REMOVED = "node_removed"


def removed(party: str) -> Forbidden:
    """Return the refusal of a node that has been removed: it serves nobody from then on."""
    return Forbidden(
        f"{party} has been removed", "enrol again under another name", code=NODE_REMOVED
    )
