"""What can stop the demo."""


class DemoError(Exception):
    """The demo cannot go on; the message names the thing, the reason and where to look."""
