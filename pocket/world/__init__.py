"""Scenes: random descriptions of sounds, and the films that go with them."""
