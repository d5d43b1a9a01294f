"""What the local stack refuses to do, and why."""


class StackError(Exception):
    """The stack cannot do what was asked; the message names the thing, the reason, the remedy."""
