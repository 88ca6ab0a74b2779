"""``saltseg VERB …`` as a user calls it, but in this process: torch is imported once and not once per command."""

from saltseg.cli import app


def call(*arguments: str) -> int:
    """Run ``saltseg ARGUMENTS``; returns the exit code."""
    return app.call(arguments)
