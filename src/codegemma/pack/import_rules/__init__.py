"""One module per family of languages: what an import looks like, and which file it means."""
