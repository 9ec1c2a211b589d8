"""Prompts and video features -> context tokens for the network."""
