"""One thin file per verb; wires the parts and holds no logic."""
