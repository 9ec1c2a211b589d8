"""Example workflows: their descriptions, and the command that writes their files."""
