"""Names that files and folders can have and that programs misread, for tests of paths."""

from __future__ import annotations

import random

# What means something in a URI, in a shell, in a configuration file, in a path; and letters of several alphabets.
LETTERS = "ab%2F?#&=+:;@!'\"\\ ~$()[]{}|^`,*<>\n\tüß文🙂"


def names(count: int) -> list[str]:
    """File names made of the letters above; those known to have failed come first."""
    rng = random.Random(14)
    made = ("".join(rng.choices(LETTERS, k=rng.randint(1, 12))) for _ in range(count))
    return ["job_feature%2Fx", "what?x=1", "my store #1 ü", "100%", "%25", "a?b?c", *made]
