"""One file per wire protocol; each turns its own fields into an ask and a reply back into its own shape."""
