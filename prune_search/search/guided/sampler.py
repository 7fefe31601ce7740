"""The sampler `guided`, as one of Optuna's: it draws what its guide has chosen from the records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial


@dataclass
class GuidedSampler(BaseSampler):
    """Draws a chosen point.

    Attributes:
        seed: of what it draws where nothing was chosen.
        prior: whether published findings are a prior mean of the error.
        chosen: by hole, the value that is drawn.
    """

    seed: int
    prior: bool
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Holes can depend on each other, so that each is drawn when it is met."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The chosen value of a hole, or a random one where there is none."""
        if param_name in self.chosen:
            return self.chosen[param_name]
        return RandomSampler(seed=self.seed).sample_independent(study, trial, param_name, param_distribution)
