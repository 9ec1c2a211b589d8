"""Everything that touches `comfy.*` or `folder_paths`."""
