//! Where the tests write down what they measured: one file for each table, under the target directory.

use std::path::PathBuf;

/// Keeps the lines of a table under a name, and prints them.
pub fn keep(name: &str, lines: &[String]) {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rollouts");
    let text = lines.join("\n") + "\n";
    println!("{text}");
    let kept = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(directory.join(name), text));
    // A build directory that cannot be written loses the table, which no promise depends on.
    if let Err(error) = kept {
        println!("{}: {error}", directory.display());
    }
}
