"""Measurements of how well a sound matches its scene."""
