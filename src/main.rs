//! The `weir` program: arguments to verb to exit code.

fn main() {}
