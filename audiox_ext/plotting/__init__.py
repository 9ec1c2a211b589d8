"""Draws pictures of sounds."""
