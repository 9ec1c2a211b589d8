"""The only part of the nodes that imports ComfyUI's own modules (`comfy` and `folder_paths`)."""
