"""Gemma as plain functional JAX, its configurations and its checkpoints."""
