"""Networks as data: what they compute as a list of operations from a list of allowed ones, without code."""
