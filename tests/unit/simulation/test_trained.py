"""Which steps of a simulated search are trained, and when they are there."""

from __future__ import annotations

from prune_search.simulation.trained import Trained


def test_a_segment_is_trained_once_and_further_where_somebody_needs_more() -> None:
    trained = Trained()
    assert trained.train("a", 10, 0.0) == (10, 10.0)
    # Somebody else waits for the same steps, or finds them there.
    assert trained.train("a", 10, 4.0) == (0, 10.0)
    assert trained.train("a", 10, 30.0) == (0, 30.0)
    # Step 6 is there at time 6, though step 10 is still being trained.
    assert trained.train("a", 6, 4.0) == (0, 6.0)
    assert trained.train("a", 15, 12.0) == (5, 17.0)
    assert trained.train("b", 3, 12.0) == (3, 15.0)


def test_more_steps_are_trained_after_those_that_are_on_their_way() -> None:
    trained = Trained()
    trained.train("a", 10, 0.0)
    assert trained.train("a", 14, 2.0) == (4, 14.0)
