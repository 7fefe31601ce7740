"""What travels to the nodes of a cluster."""

from __future__ import annotations

from pathlib import Path

import prune_search
from prune_search.search.ray.runtime_env import runtime_env


def test_the_whole_package_travels_and_no_folder_where_no_code_is_the_users() -> None:
    package = Path(prune_search.__file__).parent
    assert runtime_env(None, {"DO_NOT_TRACK": "true"}) == {
        "py_modules": [str(package)],
        "env_vars": {"DO_NOT_TRACK": "true"},
    }
