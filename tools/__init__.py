"""Helpers for developers, run from the repository's root: the demo and the picture of a sound."""
