"""What a node tells of itself."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

from prune_search.search.ray.nodes import PACKAGES, Reporter, this_machine, versions


def test_versions_are_those_of_python_and_of_what_a_trial_needs() -> None:
    found = versions()
    assert set(found) == {"python", *PACKAGES}
    assert found["python"] == platform.python_version()
    assert found["torch"] != "none"


def test_a_storage_is_seen_where_the_file_of_the_other_is_and_can_be_written(tmp_path: Path) -> None:
    reporter = Reporter()
    assert reporter.storage(str(tmp_path / "store"), "here", "mine") == (False, f"there is no {tmp_path}/store")
    assert reporter.storage(str(tmp_path), "here", "mine") == (False, "")
    (tmp_path / "here").touch()
    assert reporter.storage(str(tmp_path), "here", "mine") == (True, "")
    assert (tmp_path / "mine").is_file()
    (tmp_path / "file").touch()
    found, why = reporter.storage(str(tmp_path / "file"), "here", "mine")
    assert (found, bool(why)) == (False, True)
    assert "\n" not in why


def test_this_machine_needs_no_ray_to_be_asked(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    node = this_machine(tmp_path, "here")
    assert (node.name, node.found, node.wrote, node.clock) == (socket.gethostname(), True, "", 0.0)
    assert node.disk_free > 0
