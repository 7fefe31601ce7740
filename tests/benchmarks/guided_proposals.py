"""What a proposal of the sampler `guided` takes, as a search gets longer and as more recipes are to choose from.

    python tests/benchmarks/guided_proposals.py | tee tests/benchmarks/records/guided_proposals.log

Trials are simulated and drawn at random; then proposals are asked for as their records come in. The first one reads
everything, as a driver does that goes on with a search. Milliseconds are those of a processor.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from simulated_trials import SPACE, begin

from prune_search.ledger.records import TrialRecords
from prune_search.recipe import strict_yaml
from prune_search.recipe.space import Space, read_space
from prune_search.search.guided import candidates
from prune_search.search.guided.guide import Guide
from prune_search.search.guided.past import looked_at
from prune_search.search.guided.recommend import nominal
from prune_search.simulation.search import simulate_search
from prune_search.simulation.surface import Simulation

# Proposals that are asked for one after the other.
ASKED = 16


def space(trials: int, rounds: int) -> Space:
    """The space of `simulated_trials`, with trials of so many rounds."""
    values = {"trials": trials, "sampler": "random", "controls": False, "concurrency": 1}
    sets = [(f"search.{key}", value) for key, value in values.items()]
    return read_space({**strict_yaml.load(SPACE), "rounds": rounds}, "benchmark", sets)


def ended(searched: Space) -> list[TrialRecords]:
    """Its trials, simulated."""
    simulation = Simulation.of("closed-form")
    with tempfile.TemporaryDirectory() as storage:
        folder = begin(Path(storage), searched, simulation)
        return simulate_search(searched, folder, simulation, lambda: False).numbered()


def timed(guide: Guide, known: list[TrialRecords]) -> float:
    """Milliseconds of a proposal."""
    begun = time.process_time()
    guide.choose(len(known) + 1, known, None)
    return 1000 * (time.process_time() - begun)


def main() -> None:
    """Print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--filled", type=int, nargs="+", default=[512, 1024])
    options = parser.parse_args()
    print("rounds  trials  measurements  looked at  candidates   first ms   then, median ms   at most")
    for rounds in (1, 3):
        known = ended(space(max(options.trials) + ASKED, rounds))
        for filled in options.filled:
            vars(candidates).update(FILLED=filled)
            kept, _ = Guide(space(8, rounds), nominal).fixed
            for trials in options.trials:
                guide = Guide(space(8, rounds), nominal)
                vars(guide).update(fixed=(kept, False))
                first, *rest = [timed(guide, known[: trials + number]) for number in range(ASKED)]
                past = guide.reader.all(known[:trials])
                seen = sum(len(one.seen) for one in past)
                print(
                    f"{rounds:6} {trials:7} {seen:13} {len(looked_at(past)):10} {len(kept):11} {first:10.0f}"
                    f" {statistics.median(rest):17.0f} {max(rest):9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
