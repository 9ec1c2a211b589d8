"""The training of the autoencoder."""
