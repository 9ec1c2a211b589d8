"""A request -> finished audio: checks, plan, windows, edits."""
