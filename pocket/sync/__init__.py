"""The training of the sync encoder."""
