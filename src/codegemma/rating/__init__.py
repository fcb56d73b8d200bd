"""People rate what models wrote, blind, on a page of their own machine."""
