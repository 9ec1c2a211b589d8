"""Synthesis: a scene -> a stereo waveform."""
