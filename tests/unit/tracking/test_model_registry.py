"""Under which names a model can be registered; that it is served is shown by tests/integration/test_cli_search.py."""

from __future__ import annotations

import pytest

from prune_search.recipe.problems import UserError
from prune_search.tracking.model_registry import MAX_NAME, check_name


def test_a_name_that_mlflow_would_refuse_is_refused_before_anything_is_run() -> None:
    for name in ("digits", "digits v2", "Ziffern-ß", "a" * MAX_NAME):
        check_name(name)
    for name in ("", "  ", "a/b", "models:/digits", "a\\b", "two\nlines", "a" * (MAX_NAME + 1)):
        with pytest.raises(UserError) as refused:
            check_name(name)
        (problem,) = refused.value.problems
        assert problem.path == "--register"
        assert "\n" not in str(problem)
