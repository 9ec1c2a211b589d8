"""Measure the engine's time, memory and quality.

The speed benchmarks use full-size models with random weights. Each file is a command: run
`python -m benchmarks.step --help`. `NOTES.md` lists the measurements and the decisions that follow from them.
"""
