"""One experiment a file, its command on top."""
