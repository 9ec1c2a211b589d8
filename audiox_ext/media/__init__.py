"""Reads and writes audio and video, and measures and converts what they contain."""
