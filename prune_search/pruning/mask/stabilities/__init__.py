"""Stabilities: when a mask that is looked at every epoch counts as settled."""
