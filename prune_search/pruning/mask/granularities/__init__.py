"""Granularities: a small file for each kind of unit that is pruned as a whole."""
