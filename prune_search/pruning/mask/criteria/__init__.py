"""Criteria: a small file for each family of scores."""
