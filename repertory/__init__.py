"""The vocabulary of Repertory: the types, settings and ports that every other package speaks."""

__version__ = "0.1.0"
