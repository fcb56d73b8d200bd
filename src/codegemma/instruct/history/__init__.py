"""Conversations about the changes that people made to their own code."""
