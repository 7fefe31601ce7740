"""Trials without training: a surface supplies the accuracy of each network. No torch, no data."""
