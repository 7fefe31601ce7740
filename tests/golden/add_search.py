"""Makes the golden search of format 1, which was asked to end half-way.

    PYTHONPATH=tests python tests/golden/add_search.py

Only for a new format: a search that is in the repository is never written anew, since old ones must stay readable.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from simulated_runs import Simulated

from prune_search.ledger.records import SearchRecords, TrialRecords

PLACE = Path(__file__).parent / "search_1"
SPACE = """\
task: {data: digits, model: {name: mlp, hidden: [16]}, seed: 0}
train: {steps: 2ep}
mask: {sparsity: {hole: uniform, low: 0.5, high: 0.95}}
any:
- preset: snip
- preset: lottery-ticket
  rounds: {hole: int, low: 2, high: 3}
search: {sampler: random, trials: 4, concurrency: 1, seed: 5}
"""


def make(storage: Path) -> Path:
    """A search whose third trial has not ended; its folder."""
    simulated = Simulated.begin(storage, SPACE)

    def told(records: SearchRecords, trial: TrialRecords | None) -> None:
        simulated.asked |= trial is not None and trial.id == "000002"

    simulated.run(listener=told)
    (simulated.folder / "trials" / "000002" / "ended-001-000000.json").unlink()
    return simulated.folder


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(make(Path(folder)), PLACE)
    definition = PLACE / "search.json"
    definition.write_text(definition.read_text().replace(folder, "/golden"))
