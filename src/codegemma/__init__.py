"""An open implementation of the CodeGemma system: from a repository to a completion in the editor."""

__version__ = "0.1.0"
