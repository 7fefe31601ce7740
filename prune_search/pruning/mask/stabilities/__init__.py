"""Stabilities: when a mask that is checked every epoch counts as stable."""
