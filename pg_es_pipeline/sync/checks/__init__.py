"""The parts of `pg-es check`, one module for each thing that is looked at."""
