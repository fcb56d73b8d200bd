"""Conversations to tune on that need no model to write them: mathematics, generated algebra, a repository's history."""
