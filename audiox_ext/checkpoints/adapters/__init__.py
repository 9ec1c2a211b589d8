"""What LoRA files of other programs contain: their tensor names, and how each method changes a weight."""
