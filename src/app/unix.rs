//! The file of a unix-socket listener. One that a process left behind makes way; one that is no socket, or on which
//! somebody answers, stays. It is taken away at the end, unless another file is there by then.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

/// The file of a socket, told from a later one at the same place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

// === impl SocketFile ===

impl SocketFile {
    /// The file that is at `path`.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), identity: (found.dev(), found.ino()) })
    }

    /// Takes it away, if it is still there.
    pub(super) fn remove(&self) {
        let same = Self::at(&self.path).is_ok_and(|found| found.identity == self.identity);
        if same && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket file stays behind");
        }
    }
}

/// Binds a socket to `path` with these permission bits. It does not listen yet, so nobody gets in by other bits.
pub(super) fn bind(path: &Path, mode: u32) -> io::Result<Socket> {
    make_way(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(mode)) {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Takes a socket file away on which nobody answers.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is there"))
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, taken away at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("weir-unix-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }

        fn socket(&self) -> PathBuf {
            self.0.join("weir.sock")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_that_nobody_answers_on_makes_way_and_one_that_somebody_does_stays() {
        let place = Place::new("way");
        let first = bind(&place.socket(), 0o600).expect("a free place");
        assert_eq!(fs::metadata(place.socket()).expect("it is there").mode() & 0o777, 0o600);
        first.listen(1).expect("listening");
        let refused = bind(&place.socket(), 0o600).expect_err("somebody answers");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(&place.socket(), 0o666).expect("nobody answers any more");
    }

    #[test]
    fn what_is_no_socket_is_never_taken_away() {
        let place = Place::new("file");
        fs::write(place.socket(), "precious").expect("written");
        assert_eq!(bind(&place.socket(), 0o600).expect_err("a file").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(place.socket()).expect("it stays"), "precious");
    }

    #[test]
    fn only_the_own_file_is_taken_away_at_the_end() {
        let place = Place::new("end");
        let first = bind(&place.socket(), 0o600).expect("a free place");
        let file = SocketFile::at(&place.socket()).expect("it is there");
        drop(first);
        fs::rename(place.socket(), place.0.join("old.sock")).expect("renamed");
        let _second = bind(&place.socket(), 0o600).expect("bound");
        file.remove();
        assert!(place.socket().exists(), "it is another one's");
        SocketFile::at(&place.socket()).expect("it is there").remove();
        assert!(!place.socket().exists());
    }
}
