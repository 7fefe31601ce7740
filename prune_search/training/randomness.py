"""Randomness: every draw is a pure function of (seed, stream, counters).

Nothing keeps a generator from one step to the next. Whoever needs random numbers names what they are for and when
(``generator(seed, "augment", step)``), draws them, and lets the generator go. So any step can be replayed from its
number alone, no state of a generator is ever stored, and what one part draws never moves what another part draws.
"""

from __future__ import annotations

import hashlib
import operator
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
else:
    from prune_search.lazy import torch


def derive(seed: int, *words: str | int) -> int:
    """A number that depends on the seed and on every word, and on nothing else.

    The seed and the words are written as one JSON list, in which no two different lists look alike (``"ab", "c"``
    against ``"a", "bc"``, ``1`` against ``"1"``), and hashed with sha256. The values never change: keys, states and
    exports depend on them.

    Args:
        seed: any whole number.
        words: the name of the stream, then its counters.

    Returns:
        The first 63 bits of the hash, 0 ≤ n < 2**63.

    Raises:
        TypeError: the seed or a counter is no whole number; 1.0 is none.
    """
    # As json.dumps without spaces, which would make an encoder at every call: half of the time.
    parts = [encode_basestring_ascii(one) if isinstance(one, str) else str(operator.index(one)) for one in words]
    digest = hashlib.sha256(f"[{','.join((str(operator.index(seed)), *parts))}]".encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *words: str | int) -> torch.Generator:
    """A fresh generator on the CPU for one purpose at one moment.

    torch's CPU generator uses the lower 32 bits of its seed, so two streams are the same with a chance of 2**-32.
    Draws for another device are made here and moved there, so that every device sees the same numbers.

    Args:
        seed: the trial's seed.
        words: the name of the stream, then its counters.
    """
    return torch.Generator().manual_seed(derive(seed, *words))
