"""Keeps a ComfyUI server busy for a long time, and looks for what grows, leaks or changes."""
