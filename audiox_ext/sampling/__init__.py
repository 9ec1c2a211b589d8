"""Noise -> latents: samplers, schedules, guidance and windows."""
