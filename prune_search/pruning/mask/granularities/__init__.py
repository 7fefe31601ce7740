"""Granularities: one small file per kind of unit that is pruned as a whole."""
