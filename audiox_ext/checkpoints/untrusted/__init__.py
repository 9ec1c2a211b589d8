"""Checks of files from strangers: what they claim is compared with what they can hold, before it costs."""
