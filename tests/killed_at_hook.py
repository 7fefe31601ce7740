"""``prune-search …``, killed by itself where Ray Tune calls a hook of its callbacks.

python tests/killed_at_hook.py HOOK TIMES launch SPACE …      at the call number TIMES of that hook
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def main() -> None:
    """Run the command line."""
    hook, times = sys.argv[1], int(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    from ray import tune

    from prune_search.cli import main as command_line

    calls = 0

    def kill(*given: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == times:
            os.kill(os.getpid(), signal.SIGKILL)

    killing = type("Killing", (tune.Callback,), {hook: kill})

    class Killed(tune.RunConfig):
        def __post_init__(self) -> None:
            self.callbacks = [killing()]
            super().__post_init__()  # type: ignore[no-untyped-call]

    vars(tune).update(RunConfig=Killed)
    command_line.main()


if __name__ == "__main__":
    main()
