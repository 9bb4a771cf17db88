"""The one client of the coordinator's listeners: TLS, a deadline on every call."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc

from coordinator import clock
from coordinator.cli.validity import certificate_in, validity_of
from protos.domain.errors import ConfigInvalid, EdgeForgeError, LinkDown, Unauthenticated
from protos.enrolment.keys import key_in
from protos.v1 import (
    admin_pb2_grpc,
    adoption_pb2_grpc,
    deploy_pb2_grpc,
    enrolment_pb2_grpc,
    registry_pb2_grpc,
    residency_pb2_grpc,
    usage_pb2_grpc,
)
from protos.wire.errors import error_from_metadata

if TYPE_CHECKING:
    from coordinator.cli.profiles import Profile
    from protos.v1 import adoption_pb2, enrolment_pb2, usage_pb2

T = TypeVar("T")

COORDINATOR_NAME = "coordinator.edgeforge.internal"
TIMEOUT_S = 30.0
_LOGIN_AGAIN = "log in again under another context, with a new invitation: edgeforge login"
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.ssl_target_name_override", COORDINATOR_NAME),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
)


class AdminClient:
    """Calls the Admin service; translates its errors."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        ca_pem, key_pem, cert_pem = read_credentials(profile)
        credentials = grpc.ssl_channel_credentials(
            root_certificates=ca_pem, private_key=key_pem, certificate_chain=cert_pem
        )
        self._channel = grpc.secure_channel(profile.admin_address, credentials, options=_OPTIONS)
        self._stub = admin_pb2_grpc.AdminStub(self._channel)
        self._deploys = deploy_pb2_grpc.DeploysStub(self._channel)

    def call(
        self,
        method: Callable[[admin_pb2_grpc.AdminStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message or an iterator of them
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method. Raises: LinkDown, or the error that the coordinator answered."""
        return self._called(method(self._stub), request, timeout_s)

    def registry(
        self,
        method: Callable[[registry_pb2_grpc.RegistryStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message or an iterator of them
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method of the registry. Raises: as ``call``."""
        stub = registry_pb2_grpc.RegistryStub(self._channel)
        return self._called(method(stub), request, timeout_s)

    def adoption(
        self,
        method: Callable[[adoption_pb2_grpc.AdoptionStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method about other hubs. Raises: as ``call``."""
        stub = adoption_pb2_grpc.AdoptionStub(self._channel)
        return self._called(method(stub), request, timeout_s)

    def residency(
        self,
        method: Callable[[residency_pb2_grpc.AccountResidencyStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method about zones. Raises: as ``call``."""
        stub = residency_pb2_grpc.AccountResidencyStub(self._channel)
        return self._called(method(stub), request, timeout_s)

    def import_upstream(
        self, request: adoption_pb2.ImportUpstreamRequest, timeout_s: float
    ) -> Iterator[adoption_pb2.ImportUpstreamProgress]:
        """Yield the progress of an import from another hub. Raises: as ``call``."""
        stub = adoption_pb2_grpc.AdoptionStub(self._channel)
        try:
            yield from stub.ImportUpstream(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._translate(cast("grpc.Call", error)) from error

    def usage(
        self,
        method: Callable[[usage_pb2_grpc.UsageReportsStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method about usage. Raises: as ``call``."""
        return self._called(
            method(usage_pb2_grpc.UsageReportsStub(self._channel)), request, timeout_s
        )

    def export_usage(
        self, request: usage_pb2.ExportUsageRequest, timeout_s: float
    ) -> Iterator[usage_pb2.UsageLines]:
        """Yield lines of usage, some at a time. Raises: as ``call``."""
        stub = usage_pb2_grpc.UsageReportsStub(self._channel)
        try:
            yield from stub.ExportUsage(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._translate(cast("grpc.Call", error)) from error

    def _called(self, method: Callable[..., T], request: Any, timeout_s: float) -> T:  # noqa: ANN401
        try:
            return method(request, timeout=timeout_s)
        except grpc.RpcError as error:
            # A failed call is also a grpc.Call, which the type stubs omit.
            raise self._translate(cast("grpc.Call", error)) from error

    def call_deploys(
        self,
        method: Callable[[deploy_pb2_grpc.DeploysStub], Callable[..., T]],
        request: Any,  # noqa: ANN401 - a message
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Call one method of the deploys' service. Raises: as ``call``."""
        try:
            return method(self._deploys)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise self._translate(cast("grpc.Call", error)) from error

    def close(self) -> None:
        self._channel.close()

    def _translate(self, error: grpc.Call) -> EdgeForgeError:
        found = _error_of(error)
        if not isinstance(found, LinkDown) or found.hint:
            return found
        validity = validity_of(self.profile.cert_file)
        if validity is not None and validity.days_left(clock.now_unix_ms()) <= 0:
            return Unauthenticated(
                f"the certificate {self.profile.cert_file} has expired",
                "ask an admin for an invitation, and log in again; if you are the last admin, on"
                " the coordinator's host: edgeforge-coordinator operator reset NAME",
            )
        return LinkDown(
            f"no coordinator answers at {self.profile.admin_address}: {found.message}",
            "is it running? 'edgeforge up' starts one here",
        )


def read_credentials(profile: Profile) -> tuple[bytes, bytes, bytes]:
    """Return authorities, key and certificate of a profile, in PEM.

    gRPC ends the process on a file that is empty. Raises: ConfigInvalid.
    """
    files = (profile.ca_file, profile.key_file, profile.cert_file)
    try:
        ca_pem, key_pem, cert_pem = (one.read_bytes() for one in files)
    except OSError as error:
        raise ConfigInvalid([f"profile {profile.path}: {error}"], _LOGIN_AGAIN) from error
    problems = [
        f"{path} holds no certificate"
        for path, pem in ((profile.ca_file, ca_pem), (profile.cert_file, cert_pem))
        if certificate_in(pem) is None
    ]
    key, certificate = key_in(key_pem), certificate_in(cert_pem)
    if key is None:
        problems.append(f"{profile.key_file} holds no key")
    elif certificate is not None and certificate.public_key() != key.public_key():
        problems.append(f"{profile.key_file} is not the key of {profile.cert_file}")
    if problems:
        raise ConfigInvalid(problems, _LOGIN_AGAIN)
    return ca_pem, key_pem, cert_pem


def enrol_operator(
    address: str, ca_pem: bytes, request: enrolment_pb2.EnrolOperatorRequest
) -> enrolment_pb2.EnrolOperatorResponse:
    """Redeem an invitation at ``address``. Raises: LinkDown, or what the coordinator answered."""
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    with grpc.secure_channel(address, credentials, options=_OPTIONS) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            return stub.EnrolOperator(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            found = _error_of(cast("grpc.Call", error))
            if isinstance(found, LinkDown) and not found.hint:
                raise LinkDown(
                    f"no enrolment port answers at {address}: {found.message}",
                    "`edgeforge operator invite` names its address; run this again, the token is"
                    " still good",
                ) from error
            raise found from error


@contextlib.contextmanager
def connected(profile: Profile) -> Iterator[AdminClient]:
    """Provide a client and close it afterwards."""
    client = AdminClient(profile)
    try:
        yield client
    finally:
        client.close()


def _error_of(error: grpc.Call) -> EdgeForgeError:
    metadata = [(str(key), value) for key, value in error.trailing_metadata() or ()]
    return error_from_metadata(error.code().name, error.details() or "", metadata)
