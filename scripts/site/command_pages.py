"""Every command with its options, from the command line itself."""

from __future__ import annotations


def command_page() -> str:
    """The page."""
    return "# Commands\n"
