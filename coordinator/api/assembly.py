"""Assembles the customers' API from the configuration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from coordinator import clock
from coordinator.api.customer.imports import ImportJobs
from coordinator.api.customer.listener import ApiListener, ApiParts
from coordinator.api.customer.route import Services
from coordinator.api.tls import tls_of_listener
from coordinator.core.members import SignUp
from coordinator.operations.sign_ups import SignUps
from coordinator.operations.upstream_imports import has_token

if TYPE_CHECKING:
    from coordinator.billing.billing import Billing
    from coordinator.ca.authority import CertificateAuthority
    from coordinator.config import CoordinatorConfig
    from coordinator.operations.member_secrets import MemberLogins
    from coordinator.operations.operations import Operations
    from coordinator.operations.refusals import RefusalRecorder
    from coordinator.store.store import Store


def make_api(
    config: CoordinatorConfig,
    store: Store,
    authority: CertificateAuthority,
    operations: Operations,
    logins: MemberLogins,
    refusals: RefusalRecorder,
    billing: Billing,
) -> ApiListener | None:
    """Return the listener of the customers' API, None if it is off. Raises: ConfigInvalid."""
    api = config.api
    if not api.enabled:
        return None
    sign_ups = SignUps(
        store,
        logins,
        refusals,
        SignUp(api.signup),
        clock.now_mono_ms,
        clock.now_unix_ms,
        billing.prepay,
        partial(has_token, operations.upstream_imports),
    )
    services = Services(
        operations=operations,
        sign_ups=sign_ups,
        imports=ImportJobs(clock.now_unix_ms),
        now_unix_ms=clock.now_unix_ms,
        endpoint=config.api_endpoint,
        authority_pem=authority.bundle_pem.decode(),
        publishable_key=config.payments.stripe_publishable_key,
    )
    parts = ApiParts(
        services,
        logins,
        tls_of_listener("api", api, authority, config.coordinator.name),
        payment_event=billing.payment_event,
    )
    return ApiListener(parts, api.host, api.port, max_connections=api.max_connections)
