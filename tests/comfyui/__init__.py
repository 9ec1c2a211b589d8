"""Tests of the nodes in a real ComfyUI. A package, so that its conftest is not taken for the one above."""
