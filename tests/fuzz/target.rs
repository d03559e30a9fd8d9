//! Runs one target under libFuzzer: `WEIR_TARGET` says which. See `Cargo.toml` beside this file.

#![no_main]

mod stage;
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// The check that was asked for.
static CHECK: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("WEIR_TARGET").expect("WEIR_TARGET names a target");
    let found = targets::ALL.iter().find(|(target, _)| *target == name);
    found.unwrap_or_else(|| panic!("there is no target {name}")).1
});

fuzz_target!(|bytes: &[u8]| CHECK(bytes));
