"""Texts of a command line are shown as they were written."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from agent.cli import app as agent_app
from coordinator.cli.main import app as operator_app
from coordinator.daemon import app as coordinator_app
from protos.output.command_line import command_line


def test_brackets_in_a_help_text_are_no_markup():
    app = command_line("program", "Reads [nvidia] in [/var/log].")

    @app.command()
    def read(
        path: Annotated[str, typer.Option(help="As in edgeforge-edge[agent] or [/var/log].")] = "",
    ) -> None:
        """Read [nvidia] from [/var/log]."""

    @app.command()
    def other() -> None:
        """Do nothing."""

    whole = CliRunner().invoke(app, ["--help"]).output
    assert "Reads [nvidia] in [/var/log]." in whole
    one = CliRunner().invoke(app, ["read", "--help"]).output
    assert "Read [nvidia] from [/var/log]." in one
    assert "edgeforge-edge[agent]" in one


@pytest.mark.parametrize("app", [agent_app, operator_app, coordinator_app])
def test_no_program_reads_its_texts_as_markup(app: typer.Typer):
    groups = [app, *(group.typer_instance for group in app.registered_groups)]
    assert all(group is not None and group.rich_markup_mode is None for group in groups)
