//! What is kept of one authority: `@account.json`, and for each name `NAME.pem` (certificate and key), `NAME.json`
//! (what was tried) and, during an order, `NAME.key`. Only the owner may read any of it; every file is whole at any
//! moment.
//!
//! Everything here waits for the disk.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use instant_acme::{AccountCredentials, CertificateIdentifier};

use super::AcmeError;
use super::schedule::{Record, Validity};
use crate::model::CertificateFiles;
use crate::model::acme::certificate_file;
use crate::tls::certificate::Certificate;

/// Largest file that is read back.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The account; no host has such a name, so no name's files are called so.
const ACCOUNT: &str = "@account.json";

/// Where it is kept.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    home: PathBuf,
}

type Result<T> = std::result::Result<T, AcmeError>;

// === impl Shelf ===

impl Shelf {
    pub(super) fn new(home: PathBuf) -> Self {
        Self { home }
    }

    /// Does something with it on a thread that may wait.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        done.unwrap_or_else(|error| Err(AcmeError::Inside(error.to_string())))
    }

    /// The account, if one was made.
    pub(super) fn account(&self) -> Result<Option<AccountCredentials>> {
        let path = self.home.join(ACCOUNT);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let broken = |error: serde_json::Error| AcmeError::Unread {
            // The words of the parser could quote what is secret.
            why: format!("{:?} at line {}; take it away and another account is made", error.classify(), error.line()),
            path,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    pub(super) fn keep_account(&self, account: &AccountCredentials) -> Result<()> {
        let text = serde_json::to_vec(account).map_err(|error| AcmeError::Inside(error.to_string()))?;
        self.write(ACCOUNT, &text)
    }

    /// The authority does not know it any more.
    pub(super) fn forget_account(&self) {
        let _ = fs::remove_file(self.home.join(ACCOUNT));
    }

    /// What was tried for a name. What cannot be read counts as nothing: it only spares the authority.
    pub(super) fn record(&self, name: &str) -> Record {
        let bytes = read(&self.home.join(format!("{name}.json"))).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn keep_record(&self, name: &str, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|error| AcmeError::Inside(error.to_string()))?;
        self.write(&format!("{name}.json"), &text)
    }

    /// From when and until when the certificate that is kept is valid; none when there is none that could be served.
    pub(super) fn validity(&self, name: &str) -> Option<Validity> {
        let file = certificate_file(&self.home, name);
        let held = Certificate::read(&CertificateFiles { cert: file.clone(), key: file }).ok()?;
        let ms = |unix_s: i64| u64::try_from(unix_s).unwrap_or(0).saturating_mul(1000);
        Some(Validity { from: ms(held.not_before_unix_s), until: ms(held.not_after_unix_s) })
    }

    /// How the authority calls the certificate that is kept; none when it cannot.
    pub(super) fn identifier(&self, name: &str) -> Option<CertificateIdentifier<'static>> {
        let file = certificate_file(&self.home, name);
        let held = Certificate::read(&CertificateFiles { cert: file.clone(), key: file }).ok()?;
        let (key, serial) = held.identifier;
        let fits = !key.is_empty() && !serial.is_empty();
        fits.then(|| CertificateIdentifier::new(key.as_slice().into(), serial.as_slice().into()))
    }

    /// The key that the next certificate is for, PEM. It is kept before the authority hears of it, so that what was
    /// issued can be used whenever this process ends.
    pub(super) fn draft_key(&self, name: &str, make: impl FnOnce() -> Result<String>) -> Result<String> {
        let file = format!("{name}.key");
        if let Some(bytes) = read(&self.home.join(&file))?
            && let Ok(text) = String::from_utf8(bytes)
        {
            return Ok(text);
        }
        let key = make()?;
        self.write(&file, key.as_bytes())?;
        Ok(key)
    }

    pub(super) fn drop_draft_key(&self, name: &str) {
        let _ = fs::remove_file(self.home.join(format!("{name}.key")));
    }

    /// Puts a new certificate with its key in the place of the old one, if it can be served for that name.
    pub(super) fn keep_certificate(&self, name: &str, chain: &str, key: &str) -> Result<Validity> {
        let draft = self.home.join(format!(".{name}.pem.check"));
        write(&draft, format!("{}\n{key}", chain.trim_end()).as_bytes())?;
        let read = Certificate::read(&CertificateFiles { cert: draft.clone(), key: draft.clone() });
        let checked = read.map_err(|error| AcmeError::Unusable(error.to_string())).and_then(|it| fits(&it, name));
        let kept = checked.and_then(|()| {
            let file = certificate_file(&self.home, name);
            fs::rename(&draft, &file).map_err(|error| unwritten(&file, &error))
        });
        if let Err(error) = kept {
            let _ = fs::remove_file(&draft);
            return Err(error);
        }
        settle(&self.home);
        self.drop_draft_key(name);
        self.validity(name).ok_or_else(|| AcmeError::Inside("a certificate that was read cannot be".into()))
    }

    fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let (draft, path) = (self.home.join(format!(".{file}.new")), self.home.join(file));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.home)
            .map_err(|error| unwritten(&self.home, &error))?;
        write(&draft, bytes)?;
        fs::rename(&draft, &path).map_err(|error| unwritten(&path, &error))?;
        settle(&self.home);
        Ok(())
    }
}

/// Whether a certificate can be served for a name, now.
fn fits(certificate: &Certificate, name: &str) -> Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let unusable = |why: String| Err(AcmeError::Unusable(why));
    match () {
        () if !certificate.names.iter().any(|own| own == name) => {
            unusable(format!("it is for {} and not for {name}", certificate.names.join(", ")))
        }
        () if u64::try_from(certificate.not_after_unix_s).unwrap_or(0) <= now => unusable("it has expired".into()),
        () => Ok(()),
    }
}

/// Whether the state of an authority could be kept there, without making anything: for `weir check`.
pub(super) fn is_writable(home: &Path) -> io::Result<()> {
    let there = home.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    may_write(there)
}

fn may_write(path: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    #[expect(unsafe_code, reason = "whether a directory may be written has no safe form in libc")]
    // SAFETY: a system call on a string that lives as long as the call.
    let answer = unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    use std::io::Read;
    let unread = |why: String| AcmeError::Unread { path: path.to_owned(), why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unread(error.to_string())),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| unread(error.to_string()))?;
    Ok(Some(bytes))
}

/// Writes a file that only the owner may read, down to the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let whole = || {
        // What an earlier process left may have other rights.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    whole().map_err(|error| unwritten(path, &error))
}

/// Has renames in a directory outlive a loss of power, where the file system can do that.
fn settle(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

fn unwritten(path: &Path, error: &io::Error) -> AcmeError {
    AcmeError::State { path: path.to_owned(), why: error.to_string() }
}
