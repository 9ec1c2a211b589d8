"""Neural networks in plain PyTorch. Of the project they import only the configuration and the errors."""
