"""Training of a LoRA or of a whole network on a user's sounds."""
