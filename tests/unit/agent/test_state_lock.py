"""One agent a state folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.state_lock import lock_state_dir
from protos.domain.errors import ConfigInvalid


def test_a_second_agent_on_the_same_folder_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with lock_state_dir(tmp_path / "state"):
        with pytest.raises(ConfigInvalid) as caught, lock_state_dir(tmp_path / "state"):
            pass
        assert "held by another agent" in caught.value.problems[0]
        assert caught.value.hint
    with lock_state_dir(tmp_path / "state"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigInvalid) as caught, lock_state_dir(tmp_path / "file" / "state"):
        pass
    assert "node.state_dir" in caught.value.problems[0]
