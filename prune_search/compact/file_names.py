"""Names of the files of an exported network."""

from __future__ import annotations

MODEL_FILE = "model.safetensors"
# The compact network as torch.export's program.
PROGRAM_FILE = "program.pt2"
# The network as transformers opens it, a folder.
HUGGING_FACE_FOLDER = "huggingface"
