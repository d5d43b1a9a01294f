"""The local stack and the demo: for a checkout, not part of the installed package."""
