"""The commands of `pg-es`, one module each. `cli.py` registers them."""
