"""Reads the captions of a user's sounds."""
