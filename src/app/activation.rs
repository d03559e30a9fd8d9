//! Sockets from systemd: `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` (sd_listen_fds(3)). A name
//! (`FileDescriptorName=`) is that of a listener, or `admin`; a socket under another name goes to what is configured at
//! its address.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use socket2::Socket;

use super::handover::Parcel;
use super::sockets::address_of;

/// The first descriptor (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Sockets that are taken; more are a mistake somewhere.
const SOCKETS_MAX: usize = 1024;

/// Why sockets from systemd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// The variables contradict themselves.
    #[error("LISTEN_FDS is \"{0}\": a number of sockets from 1 to {SOCKETS_MAX} is expected")]
    Count(String),
    /// Not every socket has a name.
    #[error("LISTEN_FDNAMES names {named} sockets, and LISTEN_FDS says {count}")]
    Names {
        /// How many names.
        named: usize,
        /// How many sockets.
        count: usize,
    },
    /// A descriptor is not there.
    #[error("descriptor {0} of LISTEN_FDS is not open")]
    Closed(RawFd),
    /// A socket belongs to nothing that is configured.
    #[error(
        "systemd hands over a socket \"{name}\" at {address}, which is no listener; set FileDescriptorName= to the \
         name of a listener or to admin, or give a listener that address"
    )]
    Unknown {
        /// Its name.
        name: String,
        /// Its address.
        address: String,
    },
}

/// The sockets, if any are meant for this process. Called once, before any other descriptor is opened.
pub(super) fn find() -> Result<Vec<Parcel>, ActivationError> {
    let variable = |name: &str| std::env::var(name).ok();
    let pid = std::process::id().to_string();
    // Variables of a parent that were passed on by mistake are not meant for this process.
    if variable("LISTEN_PID").as_deref() != Some(&pid) {
        return Ok(Vec::new());
    }
    let Some(count) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    let sockets = named(&count, variable("LISTEN_FDNAMES").as_deref())?;
    let taken = sockets.into_iter().zip(FIRST..).map(|(what, descriptor)| {
        Ok(Parcel { what, asked: None, sockets: vec![take(descriptor).ok_or(ActivationError::Closed(descriptor))?] })
    });
    let mut parcels: Vec<Parcel> = Vec::new();
    for parcel in taken {
        let parcel: Parcel = parcel?;
        // Several addresses under one name are one listener.
        match parcels.iter_mut().find(|other| other.what == parcel.what) {
            Some(other) => other.sockets.extend(parcel.sockets),
            None => parcels.push(parcel),
        }
    }
    Ok(parcels)
}

/// What each socket is for: `admin`, or `listeners.NAME`.
fn named(count: &str, names: Option<&str>) -> Result<Vec<String>, ActivationError> {
    let number = count.parse::<usize>().ok().filter(|number| (1..=SOCKETS_MAX).contains(number));
    let number = number.ok_or_else(|| ActivationError::Count(count.chars().take(40).collect()))?;
    let what = |name: &str| if name == "admin" { "admin".to_owned() } else { format!("listeners.{name}") };
    let Some(names) = names else {
        return Ok((0..number).map(|at| format!("listeners.unknown-{at}")).collect());
    };
    let names: Vec<String> = names.split(':').map(what).collect();
    if names.len() == number { Ok(names) } else { Err(ActivationError::Names { named: names.len(), count: number }) }
}

/// Gives a socket that came under no known name (`known`: what and address) to whatever is configured at its address.
pub(super) fn name_by_address(parcel: &mut Parcel, known: &[(String, String)]) {
    if known.iter().any(|(what, _)| *what == parcel.what) {
        return;
    }
    let Some(address) = address(parcel) else { return };
    if let Some((what, _)) = known.iter().find(|(_, at)| *at == address) {
        parcel.what.clone_from(what);
    }
}

/// That a socket is for nothing that is configured.
pub(super) fn unknown(what: &str, address: Option<String>) -> ActivationError {
    let name = what.strip_prefix("listeners.").unwrap_or(what).to_owned();
    ActivationError::Unknown { name, address: address.unwrap_or_else(|| "an address that is not known".into()) }
}

/// Where the first socket of a parcel is.
pub(super) fn address(parcel: &Parcel) -> Option<String> {
    let socket = Socket::from(parcel.sockets.first()?.try_clone().ok()?);
    address_of(&socket).ok().map(|address| address.to_string())
}

/// Takes a descriptor that the process was started with; no program that it starts shall have it.
fn take(descriptor: RawFd) -> Option<OwnedFd> {
    // SAFETY: a plain call on a number; whether it is open is what is asked.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return None;
    }
    // SAFETY: it is open, and by the protocol it is this process's to take: nothing here opened it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_is_named_or_none_is() {
        let all = |count, names| named(count, names).map_err(|error| error.to_string());
        assert_eq!(all("2", Some("public:admin")), Ok(vec!["listeners.public".into(), "admin".into()]));
        assert_eq!(all("1", None), Ok(vec!["listeners.unknown-0".into()]));
        assert!(all("2", Some("public")).is_err_and(|why| why.contains("names 1 sockets")));
        for count in ["", "0", "-1", "x", "1025", "99999999999999999999"] {
            assert!(all(count, None).is_err(), "{count}");
        }
    }

    #[test]
    fn a_socket_under_another_name_goes_to_what_is_at_its_address() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = socket.local_addr().expect("an address").to_string();
        let mut parcel = Parcel { what: "listeners.weir.socket".into(), asked: None, sockets: vec![socket.into()] };
        let known = |at: &str| [("listeners.public".to_owned(), at.to_owned())];
        name_by_address(&mut parcel, &known("127.0.0.1:1"));
        assert_eq!(parcel.what, "listeners.weir.socket");
        assert!(unknown(&parcel.what, address(&parcel)).to_string().contains(&at));
        name_by_address(&mut parcel, &known(&at));
        assert_eq!(parcel.what, "listeners.public");
    }
}
