"""Algebra problems with worked steps, correct by construction."""
