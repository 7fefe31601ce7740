"""A search of version 0.1 goes on with the order of holes that it began with: that of its file, which 0.1 itself lost.

`search_0_1_file_order/` holds the first four of fourteen simulated trials of a space whose holes do not follow the
alphabet; `proposals.json` what version 0.1 proposed in the search that was never interrupted. Both are never written
anew.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
from command_line import Typed
from real_mlflow import MLFLOW_WARNINGS

from prune_search.ledger.records import read_search
from prune_search.ledger.tracking_uri import default_uri

PLACE = Path(__file__).parent / "search_0_1_file_order"
# Trials that had ended when the search was interrupted.
STORED = 4
pytestmark = MLFLOW_WARNINGS


@pytest.mark.slow
def test_a_resumed_search_of_version_0_1_proposes_what_the_unbroken_one_did(tmp_path: Path, typed: Typed) -> None:
    folder = tmp_path / "searches" / "golden"
    shutil.copytree(PLACE, folder, ignore=shutil.ignore_patterns("proposals.json"))
    definition = json.loads((folder / "search.json").read_text())
    (folder / "search.json").write_text(json.dumps({**definition, "tracking_uri": default_uri(tmp_path)}))
    assert len(read_search(folder).trials) == STORED
    said = typed("resume", "golden", "--json")
    assert said.code == 0, said.err
    trials = read_search(folder).trials
    expected = json.loads((PLACE / "proposals.json").read_text())
    found = {name: trial.proposed.data["params"] for name, trial in trials.items() if trial.proposed}
    assert found.keys() == expected.keys()
    alike = 0
    for name in sorted(expected):
        assert found[name].keys() == expected[name].keys()
        assert all(close(found[name][hole], value) for hole, value in expected[name].items()), name
        alike += 1
        # NumPy's logarithms differ in the last bit from one kind of processor to another, and TPE's next proposal may
        # then be another one.
        if found[name] != expected[name]:
            break
    assert alike > STORED


def close(found: object, expected: object) -> bool:
    """Equal, and numbers to the last bits."""
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=1e-12)
    return found == expected
