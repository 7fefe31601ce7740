"""Exit codes of the command line, and how it prints errors."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "prune-search"
MEND = 1
USER = 2
FAILED = 3
INTERRUPTED = 130


def complain(message: str) -> None:
    """Print a message to standard error as one line."""
    sys.stderr.write(f"{PROGRAM}: {as_called(' '.join(message.splitlines()))}\n")


def called() -> str:
    """How this program was called, as it can be typed again: ``.venv/bin/prune-search`` stays that."""
    typed = sys.argv[0] if sys.argv else PROGRAM
    if Path(typed).parts[-2:] == ("prune_search", "__main__.py"):
        return f"{Path(sys.executable).name} -m prune_search"
    if Path(typed).name != PROGRAM or "/" not in typed or typed == shutil.which(PROGRAM):
        return PROGRAM
    return shlex.quote(typed)


def as_called(text: str) -> str:
    """A text whose commands begin with the program as it was called."""
    from prune_search.cli.verbs import FILES

    program = called()
    if program == PROGRAM:
        return text
    verbs = "|".join(FILES)
    return re.sub(rf"(?<![\w/.-]){PROGRAM} (?=(?:{verbs})\b)", lambda _: f"{program} ", text)
