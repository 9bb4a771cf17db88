"""A customer from sign-up to a paid invoice by the letter of docs/CUSTOMERS.md, in real processes.

The steps build upon each other, in the order of this file. No operator does anything but close the
month, for which a customer would wait.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.customer_guide import GuideWalk, commands_of
from tests.support.market import LAST_MONTH, USED_LAST_MONTH_CENTS, Market, market
from tests.support.registry_cases import adapter_files, base_files
from tests.support.waiting import wait_until

EDGE = "mad-1"
(ANSWER,) = [one for one in commands_of("Keys") if "llm.example" in one]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with market(tmp_path_factory.mktemp("m")) as one:
        yield one


@pytest.fixture(scope="module")
def acme(fleet: Market) -> GuideWalk:
    """A customer who was invited and has the guide."""
    invitation = fleet.told("account", "invite")["text"]
    return walk_of(fleet, {"efi-...": invitation})


@pytest.fixture(autouse=True)
def logs_of_a_failure(fleet: Market, request: pytest.FixtureRequest) -> Iterator[None]:
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        print(fleet.logs())


def walk_of(fleet: Market, names: dict[str, str]) -> GuideWalk:
    agent = f"http://127.0.0.1:{fleet.nodes[EDGE].ports['client']}"
    places = {
        "API": fleet.api,
        "https://llm.example": agent,
        "https://hub.example": f"https://127.0.0.1:{fleet.hub_port}",
        "203.0.113.0/24": "127.0.0.0/8",
    }
    return GuideWalk(fleet.folder, names | places)


def by_kind(answers: list[Any], **has: object) -> Any:
    """Return the answer that has these fields."""
    (found,) = [
        one
        for one in answers
        if isinstance(one, dict) and all(one.get(name) == value for name, value in has.items())
    ]
    return found


def test_an_invited_customer_signs_up_and_invites_a_colleague(acme: GuideWalk) -> None:
    (signed,) = acme.section("An account", holding="sign-up")
    acme.names["efm-..."] = signed["token"]
    acme.names["m-..."] = signed["member_id"]
    answers = acme.section("An account", holding="AUTH")
    assert by_kind(answers, id="acme")["state"] == "active"
    assert by_kind(answers, role="owner")["account"] == "acme"
    (invited,) = acme.section("Members", holding="/v1/invitations")
    acme.names["efi-..."] = invited["invitation"]
    (joined,) = acme.section("Members", holding="/v1/join")
    assert (joined["account"], joined["role"]) == ("acme", "developer")
    refused = acme.refused("GET", "/v1/models/none-such")
    assert "POST /v1/models:import" in refused["hint"], refused


def test_weights_are_uploaded_with_hf_and_imported(fleet: Market, acme: GuideWalk) -> None:
    files = adapter_files(base_model_name_or_path="acme/my-model")
    acme.written("folder", base_files())
    acme.written("adapter-folder", files)
    hub = acme.ask("GET", "/v1/hub")
    assert hub["own_authority"]
    (acme.folder / "hub.pem").write_text(hub["authority_pem"])
    acme.run("export SSL_CERT_FILE=hub.pem")
    acme.section("Models", holding="export")
    acme.section("Models", holding="hf upload")
    (job,) = acme.section("Models", holding="models:import")

    def imported() -> Any:
        shown = acme.ask("GET", f"/v1/imports/{job['id']}")
        assert shown["state"] != "failed", shown
        return shown["state"] == "done"

    wait_until(imported, 30, "the import")
    listed = [one["name"] for one in acme.section("Models", holding="API/v1/models ")[0]["items"]]
    assert listed == ["acme/my-model@1", "acme/my-model@2"]
    (adapters,) = acme.section("Models", holding="API/v1/adapters")
    assert [(one["name"], one["base"]) for one in adapters["items"]] == [
        ("acme/my-adapter@1", "acme/my-model@1")
    ]


def test_a_deployment_with_a_budget_is_made_changed_and_put_back(acme: GuideWalk) -> None:
    too_big = {"name": "acme/jp", "model": "acme/my-model", "ttft_budget_ms": 150}
    refused = acme.refused("POST", "/v1/deployments", too_big | {"residency_zones": ["JP"]})
    assert "EU at 2 nodes" in refused["hint"]
    assert EDGE not in str(refused)
    made, _, changed, back = acme.section("Deployments", holding="API/v1/deployments")[:4]
    assert (made["ttft_budget_ms"], made["sla_tier"]) == (150, "interactive")
    assert changed["revision"] == 2
    assert back["revision"] == 3
    assert [one["by"] for one in back["revisions"]] == [f"member/{acme.names['m-...']}"] * 3
    served(acme)


def test_a_key_with_scopes_calls_the_nearest_agent_with_curl_and_openai(acme: GuideWalk) -> None:
    (key,) = acme.section("Keys", holding="API/v1/keys ")
    acme.names["ef-..."] = key["api_key"]
    answered(acme)
    printed = dict(line.rsplit(" ", 1) for line in acme.python("Keys").splitlines()[1:])
    assert float(printed["x-edgeforge-cost-usd"]) > 0
    assert printed["x-edgeforge-tier"] in ("edge", "regional")
    acme.names["TRACE_ID"] = printed["x-edgeforge-trace-id"]
    acme.names["COST"] = printed["x-edgeforge-cost-usd"]
    embeds = acme.tried(ANSWER.replace("chat/completions", "embeddings"))
    assert "/v1/chat/completions" in embeds.stdout, "the key's scopes say what it is for"


def test_the_receipt_the_usage_and_the_bill_say_the_same(acme: GuideWalk) -> None:
    def recorded() -> Any:
        (sums,) = acme.section("Money", holding="usage?by=deployment")
        mine = [one for one in sums["items"] if one["group"] == "acme/support"]
        return mine[0] if mine and mine[0]["requests"] == 2 else None

    used = wait_until(recorded, 30, "both requests to be counted")
    newest, _, receipt = acme.section("Traces")
    assert acme.names["TRACE_ID"] in [one["trace_id"] for one in newest["items"]]
    cost_nano_usd = round(float(acme.names["COST"]) * 1e9)
    assert receipt["cost_nano_usd"] == cost_nano_usd
    assert receipt["billing_reason"]
    (printed,) = acme.section("Money", holding="/v1/usage/lines")
    lines = {one["trace_id"]: one for one in map(json.loads, printed.splitlines())}
    assert lines[receipt["trace_id"]]["nano_usd"] == cost_nano_usd
    (sla,) = acme.section("Money", holding="/v1/sla")
    assert [(one["sla_tier"], one["requests"]) for one in sla["lines"]] == [("interactive", 2)]
    (draft,) = acme.section("Money", holding="invoices:preview")
    assert draft["total_nano_usd"] == used["nano_usd"]
    (quote,) = acme.section("Deployments", holding="/quote")
    assert [one["budget_ms"] for one in quote["lines"]] == [80, 150, 300]
    acme.section("Money", holding="API/v1/prices")
    (profile,) = acme.section("Money", holding="/v1/billing/profile")
    assert profile["country"] == "DE"
    (targets,) = acme.section("Money", holding="/v1/alerts")
    assert targets["email"] == "ops@example.org"


def test_a_cap_of_ones_own_bounds_what_is_left(acme: GuideWalk) -> None:
    (cap,) = acme.section("Money", holding="/v1/spending-cap")
    assert cap["holds_nano_usd"] == cap["own_nano_usd"] == 500 * 10**9
    (stands,) = acme.section("Money", holding="# state, balance")
    assert 0 < cap["holds_nano_usd"] - stands["remaining_nano_usd"] < 10**6
    answered(acme)


def test_an_overdue_invoice_suspends_and_paying_it_resumes(fleet: Market, acme: GuideWalk) -> None:
    fleet.edgeforge("invoice", "close", LAST_MONTH)
    (listed,) = acme.section("Money", holding="API/v1/invoices -H")
    (invoice,) = listed["items"]
    assert invoice["open_cents"] == USED_LAST_MONTH_CENTS
    number = acme.names["NUMBER"] = invoice["number"]
    (shown,) = acme.section("Money", holding="API/v1/invoices/NUMBER -H")
    assert shown["total_cents"] == USED_LAST_MONTH_CENTS
    (command,) = [one for one in commands_of("Money") if "/document" in one]
    for form in ("pdf", "html", "csv", "focus", "document"):
        acme.run(command.replace("form=pdf", f"form={form}").replace("-OJ", f"-o {form}"))
    kept = {form: (acme.folder / form).read_bytes() for form in ("pdf", "html", "document")}
    assert kept["pdf"].startswith(b"%PDF-")
    assert b"Acme GmbH" in kept["html"]
    assert json.loads(kept["document"])["number"] == number
    for form in ("csv", "focus"):
        with (acme.folder / form).open(newline="", encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) >= 1

    fleet.let_pass(number, days=40)
    wait_until(lambda: state_of(acme) == "suspended", 30, "the account to be suspended")
    refused = acme.refused("POST", "/v1/keys", {})
    assert refused["code"] == "account_suspended"
    wait_until(lambda: acme.tried(ANSWER).returncode != 0, 30, "agents to refuse it")
    error = json.loads(acme.tried(ANSWER).stdout)["error"]
    assert "suspended" in error["message"], error
    (pays,) = [one for one in commands_of("Money") if '{"invoice": "NUMBER"}' in one]
    assert json.loads(acme.tried(pays).stdout)["error"]["code"] == "no_card"
    store_card(fleet, acme, "acme")
    assert json.loads(acme.run(pays))["state"] == "succeeded"
    assert state_of(acme) == "active"
    answered(acme)


@pytest.fixture(scope="module")
def initech(fleet: Market) -> GuideWalk:
    """A customer of open registration."""
    names = {"acme": "initech", '"efi-..."': '""', "ana@": "bo@", "my-model": "m"}
    return walk_of(fleet, names)


def test_who_registers_openly_pays_in_advance(fleet: Market, initech: GuideWalk) -> None:
    (signed,) = initech.section("An account", holding="sign-up")
    initech.names["efm-..."] = signed["token"]
    initech.section("An account", holding="export")
    initech.section("Models", holding="models:import")
    wait_until(lambda: initech.ask("GET", "/v1/models")["items"], 30, "the import")
    initech.section("Deployments", holding="ttft_budget_ms")
    initech.names["ef-..."] = initech.ask("POST", "/v1/keys", {})["api_key"]

    def refusal() -> str:
        done = initech.tried(ANSWER)
        assert done.returncode != 0, done.stdout
        return str(json.loads(done.stdout)["error"]["code"])

    wait_until(lambda: refusal() == "insufficient_quota", 30, "the key to be known")
    store_card(fleet, initech, "initech")
    (paid,) = initech.section("Money", holding="top_up_cents")
    assert paid["state"] == "succeeded"
    (stands,) = initech.section("Money", holding="# state, balance")
    assert (stands["has_card"], stands["remaining_nano_usd"]) == (True, 20 * 10**9)
    (credit,) = initech.section("Money", holding="/v1/credits")[0]["items"]
    assert credit["kind"] == "prepaid"


def test_answers_come_soon_after_a_top_up(initech: GuideWalk) -> None:
    answered(initech, timeout_s=10)


def state_of(walk: GuideWalk) -> str:
    return str(walk.ask("GET", "/v1/account")["state"])


def served(walk: GuideWalk) -> None:
    def is_served() -> bool:
        shown = walk.ask("GET", "/v1/deployments/support")
        assert shown["serving"] or shown["waits_for"], shown
        return bool(shown["serving"])

    wait_until(is_served, 30, "the deployment to be served")


def answered(walk: GuideWalk, timeout_s: float = 60) -> None:
    """Ask by the guide's command until there is an answer."""

    def is_answered() -> bool:
        done = walk.tried(ANSWER)
        print(done.stdout)  # why not, if the test fails
        return done.returncode == 0

    wait_until(is_answered, timeout_s, "an answer")


def store_card(fleet: Market, walk: GuideWalk, account: str) -> None:
    (made,) = walk.section("Money", holding="payments:set-up")
    assert made["publishable_key"] == "pk_test_1"
    fleet.store_card(account, made)
