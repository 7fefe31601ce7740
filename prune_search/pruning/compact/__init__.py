"""A structured result as a physically smaller network with the same outputs."""
