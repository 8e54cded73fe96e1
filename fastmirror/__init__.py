"""fastmirror: a mirror of PyPI, or of any Python package index, that can be trusted and is fast."""

__version__ = "0.1.0"
