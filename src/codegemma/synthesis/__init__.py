"""From snippets of a corpus to problems with solutions and tests that were run, by any model behind a server."""
