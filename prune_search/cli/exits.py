"""Exit codes of the command line, and how it prints errors."""

from __future__ import annotations

import sys

MEND = 1
USER = 2
FAILED = 3
INTERRUPTED = 130


def complain(message: str) -> None:
    """Print a message to standard error as one line."""
    sys.stderr.write(f"prune-search: {' '.join(message.splitlines())}\n")
