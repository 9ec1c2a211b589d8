"""Tests of the nodes in a real ComfyUI. A package, so that its conftest does not clash with the one above."""
