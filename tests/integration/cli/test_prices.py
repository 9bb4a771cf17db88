"""Prices and reports at the command line, against a real coordinator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.clock import now_unix_ms
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.waiting import wait_until

EDGEFORGE = Path(sys.executable).with_name("edgeforge")


class Cli:
    """An admin's command line, and where customers read prices."""

    def __init__(self, process: CoordinatorProcess, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{process.ports['http']}"
        profile = str(process.operator_dir / "profile.toml")
        self._environ = os.environ | {"EDGEFORGE_PROFILE": profile, "COLUMNS": "200"}

    def run(self, *argv: str, code: int = 0) -> str:
        """Return standard output, or standard error of a command that is to fail."""
        done = subprocess.run(
            [EDGEFORGE, *argv],
            env=self._environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    def json(self, *argv: str):
        return json.loads(self.run(*argv, "--json"))

    def public(self) -> dict[str, object]:
        with urllib.request.urlopen(f"{self.url}/pricing.json", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def cli(tmp_path_factory) -> Iterator[Cli]:
    folder = tmp_path_factory.mktemp("prices")
    process = CoordinatorProcess(folder)
    process.init()
    process.start()
    try:
        yield Cli(process, folder)
    finally:
        process.stop()


def with_prompt(shown: dict[str, object], rate: int) -> dict[str, object]:
    lines = [dict(line) for line in shown["prices"]]  # type: ignore[attr-defined]
    lines[0]["prompt_nano_usd_per_token"] = rate
    return shown | {"prices": lines}


def test_a_card_is_shown_edited_proposed_published_and_takes_effect_by_itself(cli):
    shown = cli.json("price", "show")
    assert (shown["version"], shown["in_force"], shown["author"]) == (1, True, "coordinator")
    file = cli.folder / "card.json"
    file.write_text(json.dumps(with_prompt(shown, 25)))
    told = cli.json("price", "propose", str(file), "--dry-run")
    assert (told["version"], told["kept"], told["against"]) == (2, False, 1)
    assert [one["percent"] for one in told["changes"]] == ["+4.2 %"]
    assert len(cli.json("price", "history")) == 1, "a dry run keeps nothing"

    soon = datetime.now(UTC) + timedelta(seconds=12)
    made = cli.run("price", "propose", str(file), "--valid-from", soon.isoformat())
    assert "next, as an admin: edgeforge price publish 2" in made
    published = cli.json("price", "publish", "2")
    assert (published["state"], published["in_force"]) == ("published", False)
    assert cli.public()["card_version"] == 1
    assert cli.public()["upcoming"]["card_version"] == 2
    wait_until(lambda: cli.public()["card_version"] == 2, 30, "the card to take effect")
    assert now_unix_ms() >= int(soon.timestamp() * 1_000)
    assert cli.public()["upcoming"] is None
    assert [(one["version"], one["state"]) for one in cli.json("price", "history")] == [
        (2, "published"),
        (1, "superseded"),
    ]
    assert cli.json("price", "show", "--version", "1")["in_force"] is False
    assert cli.json("price", "show", "--at", soon.isoformat())["version"] == 2
    assert "superseded already" in cli.run("price", "publish", "1", code=1)


def test_files_that_are_no_card_are_refused_with_every_problem(cli):
    bad = cli.folder / "bad.json"
    for text, says in (
        ("{", "neither JSON nor TOML"),
        ("[" * 100_000, "neither JSON nor TOML"),
        ('{"prices": [], "gold": 1}', "'gold' is no key of it; prices is no list of lines"),
        ("x" * 1_048_577, "longer than"),
    ):
        bad.write_text(text)
        assert says in cli.run("price", "propose", str(bad), code=1)
    assert "cannot read none.json" in cli.run("price", "propose", "none.json", code=1)
    bad.write_text(json.dumps(with_prompt(cli.json("price", "show"), 40)))
    refused = cli.run("price", "propose", str(bad), code=1)
    assert "xs: prompt at the edge is 100.0 % over central, not 15 to 25 %" in refused
    assert "is no date" in cli.run("price", "show", "--at", "soon", code=1)
    assert "leave one out" in cli.run(
        "price", "show", "--at", "2026-01-01", "--version", "1", code=1
    )


def test_reports_of_a_fleet_without_usage_say_so(cli):
    assert cli.json("sla", "report")["lines"] == []
    assert "nothing was used" in cli.run("sla", "report", "--by", "account")
    assert "no report is by 'moon'" in cli.run("sla", "report", "--by", "moon", code=1)
    figures = {one["name"]: one for one in cli.json("metrics")}
    assert figures["paid_requests_a_week"]["value"] == 0
    assert figures["first_token_p99"]["value"] is None
    assert "edge premium least" in cli.run("metrics")


def test_what_a_pop_costs_is_written_down_to_the_nano_and_reviewed(cli):
    where = ("--tier", "edge", "--zone", "BR", "--latitude=-23", "--longitude=-46")
    cli.run("pop", "create", "GRU", *where)
    cost = cli.json("pop", "cost", "GRU", "--usd-per-hour", "12.50")
    assert cost["nano_usd_per_hour"] == 12_500_000_000
    for text in ("twelve", "1e-10"):
        says = cli.run("pop", "cost", "GRU", f"--usd-per-hour={text}", code=1)
        assert "is no amount of dollars" in says
    (pop,) = cli.json("pop", "review")["pops"]
    assert (pop["verdict"], pop["utilisation_ratio"]) == ("too early", None)
    assert pop["cost_nano_usd"] == 60 * 24 * 12_500_000_000


def test_a_quote_of_an_unknown_deployment_and_of_no_budget_is_refused(cli):
    assert "no deployment 'none'" in cli.run("quote", "--deployment", "none", code=1)
    says = cli.run("quote", "--deployment", "none", "--ttft", "soon", code=1)
    assert "is no duration" in says
