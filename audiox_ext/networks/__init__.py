"""Neural networks, plain PyTorch; they import nothing of the project but each other and the configuration."""
