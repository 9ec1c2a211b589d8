"""A comparison of samplers, step counts and guidance settings on the same held-out prompts."""
