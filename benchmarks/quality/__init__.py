"""Scores of a model: how often its sounds contain what the prompts and videos ask for."""
