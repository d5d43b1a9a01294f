"""The demo's data: a year of flights out of New York, as a database of an airline would hold it."""
