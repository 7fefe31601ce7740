"""Trials that are not trained: a surface says how accurate they are. No torch, no data."""
