"""Developer tools, run from the repository's root: the demo, pictures, example workflows and test models."""
