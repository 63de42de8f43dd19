"""Menagerie keeps an image classifier right while the world changes."""

__version__ = "0.1.0"
