"""Checkpoint formats, one a module: each opens a place without reading its weights, and most write one."""
