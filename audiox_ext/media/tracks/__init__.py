"""Interprets the tracks of a file: their times, their samples, and how their pictures are shown."""
