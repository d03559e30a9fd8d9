"""What `benches/compare` and `benches/instructions` are made of. Python's standard library only."""
