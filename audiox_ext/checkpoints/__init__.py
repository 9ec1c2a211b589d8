"""Files of weights: find, download, read, convert, inspect."""
