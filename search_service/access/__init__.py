"""Who asks, and what of the indexes exists for them: keys, tokens, roles, and the rules' file."""
