"""How much time and memory the engine takes, on models of full size with random weights.

Each file is a command: `python -m benchmarks.step --help`. `NOTES.md` holds what was measured and why things
are as they are.
"""
