"""Dynamics: a small file for each way to move a mask during retraining."""
