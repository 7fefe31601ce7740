"""Writes exported folders: the model card, the ONNX file and plain PyTorch code."""
