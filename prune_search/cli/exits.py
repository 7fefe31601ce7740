"""Exit codes, and how an error is said."""

from __future__ import annotations

import sys

MEND = 1
USER = 2
FAILED = 3
INTERRUPTED = 130


def complain(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"prune-search: {' '.join(message.splitlines())}\n")
