"""Parts that several trainings share: batches, losses, the optimizer, export."""
