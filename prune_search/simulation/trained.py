"""Tracks which steps a simulated search has trained, so its trials share them as trained ones do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Trained:
    """What is trained, or being trained, on a virtual clock that counts steps of one worker as its unit of time.

    Attributes:
        reached: address of a segment to (steps of it that are trained or being trained, when the last of them is done).
    """

    reached: dict[str, tuple[int, float]] = field(default_factory=dict)

    def train(self, address: str, upto: int, now: float) -> tuple[int, float]:
        """Train a segment as far as `upto`, or wait for who is at it.

        Returns:
            Steps that are trained for this, and when step `upto` is there.
        """
        length, done = self.reached.get(address, (0, now))
        if upto <= length:
            return 0, max(now, done - (length - upto))
        begin = max(now, done)
        self.reached[address] = (upto, begin + upto - length)
        return upto - length, begin + upto - length
