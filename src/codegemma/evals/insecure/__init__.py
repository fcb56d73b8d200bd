"""How often code that a model writes has a weakness that static rules know."""
