"""A shop whose orders can be searched."""
