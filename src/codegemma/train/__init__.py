"""A loss, a gradient, new parameters; resumable at any step."""
