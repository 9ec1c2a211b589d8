"""The ComfyUI nodes: thin shells that read their inputs, call the engine and hand its result on."""
