"""The error with which a trial fails travels between processes with its kind."""

from __future__ import annotations

import copy

from prune_search.trial.errors import TrialError


def test_it_keeps_its_kind_and_message_when_it_is_copied() -> None:
    error = copy.copy(TrialError("nan", "the loss is not a number at step 40"))
    assert (type(error), error.kind, str(error)) == (TrialError, "nan", "the loss is not a number at step 40")
