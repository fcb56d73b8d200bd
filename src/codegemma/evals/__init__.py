"""What a model can do, measured through the Completer protocol alone."""
