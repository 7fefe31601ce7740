"""The code with which MLflow serves a registered network: reads config.json and tensors, unpickles nothing.

MLflow keeps a copy of this file with the model (models from code).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from prune_search.compact.config_file import CONFIG_FILE, load_network


class Served(PythonModel):  # type: ignore[misc, unused-ignore]
    """A compact network behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the network."""
        self.network = load_network(Path(context.artifacts[CONFIG_FILE]).parent)

    # MLflow warns without a type, and reads this one; what is taken apart from it, the signature says.
    def predict(self, context, model_input: np.ndarray, params=None):  # type: ignore[no-untyped-def]
        """From inputs [N, …] to what the network makes of them."""
        with torch.no_grad():
            return self.network(torch.from_numpy(np.ascontiguousarray(model_input))).numpy()


set_model(Served())
