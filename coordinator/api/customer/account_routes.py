"""Routes about the account itself: sign-up, joining, what it is and what it may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from coordinator.api.customer.route import Call, Model, Route
from coordinator.operations.acts import Act

if TYPE_CHECKING:
    from coordinator.operations import sign_ups


class SignUpBody(Model):
    """A new account."""

    account: str = Field(
        min_length=3, max_length=40, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", examples=["acme"]
    )
    email: str = Field(min_length=3, max_length=254, examples=["ana@example.org"])
    invitation: str = Field(
        "", repr=False, max_length=200, description="efi-...; empty: open registration."
    )


class JoinBody(Model):
    """An invitation to an account that is taken up."""

    invitation: str = Field(repr=False, min_length=1, max_length=200, description="efi-...")
    email: str = Field(min_length=3, max_length=254, examples=["bo@example.org"])


class Joined(Model):
    """A new member. The token is shown here only."""

    account: str
    member_id: str
    role: str
    token: str = Field(repr=False, description="efm-...; sent as 'Authorization: Bearer efm-...'.")
    token_expires_unix_ms: int


class Limits(Model):
    """What may be used; 0: no limit."""

    max_concurrent_sequences: int
    requests_per_minute: int
    tokens_per_minute: int


class AccountAnswer(Model):
    """An account."""

    id: str
    state: str = Field(description="active, grace, limited or suspended.")
    state_reason: str
    state_since_unix_ms: int
    created_unix_ms: int
    limits: Limits
    zones: list[str] = Field(description="Where requests may be read and served; empty: anywhere.")
    funded: bool = Field(description="A prepaid balance or a monthly cap bounds what is spent.")
    members: int
    keys: int
    deployments: int


class HubAnswer(Model):
    """Where models and adapters are uploaded, by the Hugging Face hub's protocol."""

    endpoint: str = Field(description="Empty: the hub's protocol is off.")
    own_authority: bool = Field(description="Its certificate is of the fleet's own authority.")
    authority_pem: str = Field(description="Which to trust then, as SSL_CERT_FILE; else empty.")
    environment: dict[str, str] = Field(description="Variables for `hf` and huggingface_hub.")
    hint: str


class MeAnswer(Model):
    """Who asks."""

    account: str
    member_id: str
    role: str
    may: list[str] = Field(description="The acts that the role covers.")


def _joined(made: sign_ups.Joined) -> Joined:
    return Joined(
        account=made.account_id,
        member_id=made.member.id,
        role=made.member.role.value,
        token=made.token_text,
        token_expires_unix_ms=made.token_expires_unix_ms,
    )


async def _sign_up(call: Call) -> Joined:
    body = call.given(SignUpBody)
    made = await call.services.sign_ups.sign_up(
        call.address, body.account, body.email, body.invitation
    )
    return _joined(made)


async def _join(call: Call) -> Joined:
    body = call.given(JoinBody)
    made = await call.services.sign_ups.join(call.address, body.invitation, body.email)
    return _joined(made)


async def _show(call: Call) -> AccountAnswer:
    shown = await call.operations.accounts.show(call.actor)
    account, info = shown.account, shown.info
    return AccountAnswer(
        id=account.id,
        state=account.state.value,
        state_reason=info.reason,
        state_since_unix_ms=info.state_since_unix_ms,
        created_unix_ms=info.created_unix_ms,
        limits=Limits(
            max_concurrent_sequences=account.limits.max_concurrent_sequences,
            requests_per_minute=account.limits.requests_per_minute,
            tokens_per_minute=account.limits.tokens_per_minute,
        ),
        zones=list(account.zones),
        funded=account.funded,
        members=shown.members,
        keys=shown.keys,
        deployments=shown.deployments,
    )


async def _me(call: Call) -> MeAnswer:
    await call.operations.accounts.show(call.actor)
    return MeAnswer(
        account=call.actor.account_id,
        member_id=call.actor.member_id,
        role=str(call.actor.member_role),
        may=sorted(call.may),
    )


async def _hub(call: Call) -> HubAnswer:
    endpoint, own_authority = await call.operations.repositories.place(call.actor)
    variables = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"} if endpoint else {}
    hint = (
        f"with HF_TOKEN set to your token: hf upload {call.actor.account_id}/my-model FOLDER"
        if endpoint
        else "uploads are off; import from another hub with POST /v1/models:import"
    )
    return HubAnswer(
        endpoint=endpoint,
        own_authority=own_authority,
        authority_pem=call.services.authority_pem if endpoint and own_authority else "",
        environment=variables,
        hint=hint,
    )


ROUTES = (
    Route(
        "POST",
        "/v1/sign-up",
        "sign_up",
        "Make an account and its owner, by an invitation or at open registration.",
        _sign_up,
        None,
        Joined,
        201,
        SignUpBody,
    ),
    Route(
        "POST",
        "/v1/join",
        "join",
        "Become a member of an account by an invitation to it.",
        _join,
        None,
        Joined,
        201,
        JoinBody,
    ),
    Route(
        "GET",
        "/v1/account",
        "show_account",
        "Show the account: its state, its limits, its zones.",
        _show,
        Act.ACCOUNT_SHOW,
        AccountAnswer,
    ),
    Route(
        "GET",
        "/v1/me",
        "show_me",
        "Show who asks, and what the role covers.",
        _me,
        Act.ACCOUNT_SHOW,
        MeAnswer,
    ),
    Route(
        "GET",
        "/v1/hub",
        "show_hub",
        "Show where models and adapters are uploaded, and how to log in there.",
        _hub,
        Act.REPOSITORY_PLACE,
        HubAnswer,
    ),
)
