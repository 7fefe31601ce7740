"""Exports: the folder that leaves the house, its card, its ONNX file and its plain-torch code."""
