//! Two ends of the engine, and each against h2, over a pipe in memory.
