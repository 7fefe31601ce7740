"""Names of the files that an exported network consists of."""

from __future__ import annotations

MODEL_FILE = "model.safetensors"
