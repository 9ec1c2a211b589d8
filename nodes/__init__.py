"""The ComfyUI nodes: they read their inputs, call the engine and return its result."""
