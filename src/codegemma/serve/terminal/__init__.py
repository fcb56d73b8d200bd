"""A conversation in a terminal: what is said, what is attached, what is run, how it is shown."""
