"""Neural networks in plain PyTorch. They import only the configuration and the errors of the project."""
