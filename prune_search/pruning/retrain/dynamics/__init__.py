"""Dynamics: one small file per way of moving a mask during retraining."""
