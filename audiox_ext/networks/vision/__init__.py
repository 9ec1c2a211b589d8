"""Networks that encode video frames."""
