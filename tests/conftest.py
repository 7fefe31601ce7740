"""What all tests share: one thread, so that a test does not depend on the machine's cores, and small benches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from prune_search.trial.bench import Bench

BenchOf = Callable[[Mapping[str, Any]], "Bench"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bench_of() -> BenchOf:
    """From a recipe's plain data (`preset` allowed) to a bench on the CPU."""
    import torch

    from prune_search.recipe.space import read_space
    from prune_search.trial.bench import prepare

    return lambda raw: prepare(read_space(raw, "a test").only_recipe(), torch.device("cpu"))
