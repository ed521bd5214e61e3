"""Constructed sets as other tools read them."""

from notbugs.construct.exporters.export import FORMATS, Format, export

__all__ = ["FORMATS", "Format", "export"]
