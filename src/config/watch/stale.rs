//! A bind mount of a single file goes stale when the file is replaced outside by a rename: inside, the path keeps
//! leading to the old inode, which has no name any more, and no later edit ever arrives (moby/moby#15793).

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether `path` leads to a file that is not there any more for anybody else.
pub(super) fn is_stale(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    // The count is the test that always works; the mount table also sees a file that has a second name somewhere.
    // Only regular files are asked: some file systems count no links of directories.
    metadata.is_file() && (metadata.nlink() == 0 || mounts_say_so(path))
}

fn mounts_say_so(path: &Path) -> bool {
    let Ok(path) = std::fs::canonicalize(path) else { return false };
    std::fs::read("/proc/self/mountinfo").is_ok_and(|table| names_deleted(&table, path.as_os_str().as_bytes()))
}

/// Whether a mount table (proc_pid_mountinfo(5): field 4 is the root within the file system, field 5 the mount point)
/// has `path` as the mount of a deleted file.
fn names_deleted(table: &[u8], path: &[u8]) -> bool {
    table.split(|&b| b == b'\n').any(|line| {
        let mut fields = line.split(|&b| b == b' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { return false };
        root.ends_with(b"//deleted") && unescape(point) == path
    })
}

/// Blanks and backslashes are written as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|b| (b'0'..=b'7').contains(b)));
        match digits {
            Some(digits) => {
                let code = digits.iter().fold(0_u32, |sum, digit| sum * 8 + u32::from(digit - b'0'));
                out.push(code as u8);
                rest = &tail[3..];
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_a_deleted_file_is_recognised() {
        let table =
            b"36 35 98:0 /weir/weights.toml//deleted /etc/we\\040ir/weights.toml rw,noatime - ext4 /dev/sda rw\n\
            37 35 98:0 / /etc/weir.toml rw - ext4 /dev/sda rw\n";
        assert!(names_deleted(table, b"/etc/we ir/weights.toml"));
        assert!(!names_deleted(table, b"/etc/weir.toml"));
        assert!(!names_deleted(b"", b"/"));
    }

    #[test]
    fn an_ordinary_file_is_not_stale() {
        assert!(!is_stale(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml").as_path()));
    }
}
