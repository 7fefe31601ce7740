"""Exit codes of the command line, and how it prints errors."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from pathlib import Path

PROGRAM = "prune-search"
MEND = 1
USER = 2
FAILED = 3
INTERRUPTED = 130


def complain(message: str) -> None:
    """Print a message to standard error as one line; a terminal gets it in lines that break between words."""
    line = f"{PROGRAM}: {as_called(' '.join(message.splitlines()))}"
    sys.stderr.write((folded(line, shutil.get_terminal_size().columns) if sys.stderr.isatty() else line) + "\n")


def folded(line: str, columns: int) -> str:
    """A line broken between words, but not within a command of this program, so that it can be copied."""
    command = re.compile(rf"{re.escape(called())} (?:{_verbs()})\b[^.:;,()]*")
    kept = command.sub(lambda found: found[0].rstrip().replace(" ", "\0") + " " * found[0].endswith(" "), line)
    lines = textwrap.wrap(kept, columns, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


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
    program = called()
    if program == PROGRAM:
        return text
    return re.sub(rf"(?<![\w/.-]){PROGRAM} (?=(?:{_verbs()})\b)", lambda _: f"{program} ", text)


def _verbs() -> str:
    """Any verb of this program, as a regular expression has it."""
    from prune_search.cli.verbs import FILES

    return "|".join(FILES)
