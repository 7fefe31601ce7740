"""f1: where the mask is found, by which scores, over which units, and how much is kept."""
