"""Repositories in; files fit to train on out, and every dropped file with its reason."""
