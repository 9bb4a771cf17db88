"""``edgeforge login``: an invitation becomes a key and a certificate on this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.client import enrol_operator
from coordinator.cli.common import JsonOption
from coordinator.cli.profiles import Contexts, context_name_of, find_profile
from protos.domain.addresses import is_loopback, split_address
from protos.domain.errors import ConfigInvalid, InvalidRequest, Unauthenticated
from protos.enrolment.keys import key_in, key_pem, new_key, signing_request
from protos.enrolment.token_text import PREFIX_OF_OPERATOR, EnrolmentToken, parse_token
from protos.host.files import write_whole
from protos.output.terminal import print_json, print_line, print_progress
from protos.v1 import enrolment_pb2

_STDIN = "-"
_MAX_TOKEN_BYTES = 4_096
_HINT = (
    "is the coordinator's enrolment port open to this machine?"
    " `edgeforge operator invite` names its address"
)
_LOOPBACK_WARNING = (
    "this coordinator listens for operators on loopback only: commands work on its own machine"
    " alone until admin.host and admin.advertise are set there, and you log in again"
)


def login(
    coordinator: Annotated[str, typer.Argument(help="host:port of the enrolment listener.")],
    token_file: Annotated[str, typer.Option(help="File with the invitation; -: standard input.")],
    context: Annotated[
        str, typer.Option(help="Name of the context to write; empty: the coordinator's host.")
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Log in to a coordinator with an invitation. The key is made here and stays here.

    Example: edgeforge login coordinator.example:7403 --token-file ana.token
    """
    from protos.enrolment.pinning import pinned_ca  # OpenSSL, used only here

    token = parse_token(_read_token(token_file), PREFIX_OF_OPERATOR)
    contexts = Contexts(Path.home())
    name = context or context_name_of(coordinator)
    contexts.check_free(name)
    ca_pem = pinned_ca(coordinator, token.ca_sha256, _HINT)
    pending, key_text = _pending_key(contexts, token)
    key = key_in(key_text)
    assert key is not None
    request = enrolment_pb2.EnrolOperatorRequest(
        token_id=token.id, secret=token.secret, csr_der=signing_request(key)
    )
    try:
        answer = enrol_operator(coordinator, ca_pem, request)
    except Unauthenticated:
        pending.unlink(missing_ok=True)  # another answer to this token and key will not come
        raise
    profile = contexts.add(
        name,
        admin_address=answer.admin_address,
        key_pem=key_text,
        cert_pem=answer.certificate_pem,
        ca_pem=answer.ca_bundle_pem,
    )
    contexts.use(name)
    pending.unlink(missing_ok=True)
    if json_output:
        print_json(
            {
                "operator": answer.name,
                "role": answer.role,
                "context": name,
                "profile": str(profile),
                "admin_address": answer.admin_address,
                "admin_on_loopback": answer.admin_on_loopback,
            }
        )
    else:
        print_line(f"{answer.name} is logged in as {answer.role}: context {name}")
    if answer.admin_on_loopback and not _is_here(coordinator):
        print_progress(_LOOPBACK_WARNING)
    used = find_profile(None, os.environ, Path.home())
    if used != profile:
        print_progress(f"note: here commands use {used}; this one with --profile {profile}")
    print_progress("next: edgeforge status")


def _is_here(coordinator: str) -> bool:
    parts = split_address(coordinator)
    return parts is not None and is_loopback(parts[0])


def _read_token(token_file: str) -> str:
    """Raises: InvalidRequest, ConfigInvalid."""
    if token_file == _STDIN:
        return sys.stdin.read(_MAX_TOKEN_BYTES)
    try:
        with Path(token_file).open(encoding="utf-8") as file:
            return file.read(_MAX_TOKEN_BYTES)
    except UnicodeDecodeError:
        raise InvalidRequest(f"{token_file} holds no token") from None
    except OSError as error:
        raise ConfigInvalid(
            [f"--token-file {token_file}: {error.strerror}"], "- reads it from standard input"
        ) from error


def _pending_key(contexts: Contexts, token: EnrolmentToken) -> tuple[Path, bytes]:
    """Return where the key for this token is, and its PEM.

    It is on disk before the token is sent: after a lost answer, a retry with the same key gets the
    same certificate.
    """
    path = contexts.pending_key(token.id)
    if path.is_file() and key_in(kept := path.read_bytes()) is not None:
        return path, kept
    pem = key_pem(new_key())
    write_whole(path, pem)
    return path, pem
