"""Criteria: one small file per family of scores."""
