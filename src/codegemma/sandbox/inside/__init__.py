"""Programs of ours that run inside boxes. They import the standard library and each other, by their bare names."""
