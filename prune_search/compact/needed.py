"""What the runtimes of networks need besides torch, and whether this machine has it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL_ONNX = "pip install 'prune-search[onnx]'"
# The oldest set of operations that networks are written with.
OPSET = 18


def missing_onnx() -> str:
    """The packages that ONNX files are written and run with and that are not installed; empty where all are."""
    return ", ".join(name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None)


def lacks_onnx() -> str:
    """What has to be installed for ONNX files, and how; empty where nothing has."""
    missing = missing_onnx()
    return f"{missing} ({INSTALL_ONNX})" if missing else ""


def lacks_compiler() -> str:
    """The C++ compiler that torch.compile would call and that is not here; empty where it is."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(compiler) else f"the C++ compiler {compiler}"
