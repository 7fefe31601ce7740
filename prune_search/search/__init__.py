"""Search: proposers, schedulers, rungs and the tree of shared training; ray/ holds all that touches Ray."""
