"""The training of the diffusion network."""
