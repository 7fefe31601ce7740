"""How the options of functional-prior are read."""

from __future__ import annotations

from typing import Any

import pytest

from prune_search.recipe.axes import INITS
from prune_search.recipe.fields import Value, canonical
from prune_search.recipe.problems import UserError
from prune_search.training.prior_options import search_of


def read(**options: Any) -> dict[str, Any]:
    found = canonical(Value(INITS), {"name": "functional-prior", **options}, "train.init")
    assert isinstance(found, dict)
    return found


def test_a_search_is_what_the_options_say() -> None:
    gp = {"kernel": "arc-cosine", "amplitude": 2, "bias": 0.5}
    numbers = read(gp=gp, functions=9, critic_units=7, critic_steps=3, rate=0.2, prior="hierarchical")
    numbers.pop("name")
    search = search_of(numbers.pop("gp"), numbers.pop("prior"), numbers)
    assert (search.process.kernel, search.process.amplitude, search.process.bias) == ("arc-cosine", 2.0, 0.5)
    assert search.process.lengthscale is None
    assert (search.prior, search.functions, search.rate) == ("hierarchical", 9, 0.2)
    assert (search.critic.steps, search.critic.hidden) == (3, (7, 7))
    assert read(gp={"lengthscale": 0.6})["gp"]["lengthscale"] == 0.6


@pytest.mark.parametrize(
    ("gp", "said"),
    [
        ({"kernel": "rbf", "bias": 1.0}, "train.init.gp.bias: is not used by the kernel rbf"),
        ({"kernel": "linear", "lengthscale": 1.0}, "train.init.gp.lengthscale: is not used by the kernel linear"),
        ({"kernel": "cosine"}, "train.init.gp.kernel: 'cosine' is not one of"),
        ({"lengthscale": 0}, "train.init.gp.lengthscale: must be"),
    ],
)
def test_what_does_not_go_together_is_refused(gp: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as raised:
        read(gp=gp)
    assert said in str(raised.value)
