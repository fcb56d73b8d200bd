"""What a model says to requests that it should refuse, and to harmless ones that look alike."""
