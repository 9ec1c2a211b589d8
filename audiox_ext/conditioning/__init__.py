"""Turns prompts and video features into context tokens for the network."""
