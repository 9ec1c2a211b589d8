"""Checks of files from strangers: their claims are checked before memory or time is spent."""
