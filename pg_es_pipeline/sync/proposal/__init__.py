"""What a tables file could say of a database that has none yet, from its catalog and statistics."""
