"""Whether a model finds its way into small machines of an exercise: capture the flag, in boxes without a network."""
