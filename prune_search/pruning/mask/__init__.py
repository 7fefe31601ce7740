"""f1: which weights are kept, found on the weights of step k1."""
