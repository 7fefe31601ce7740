"""One recipe, run: rounds.py reads like the formula."""
