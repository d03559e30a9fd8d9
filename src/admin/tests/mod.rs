//! Promises of the admin API over real sockets: a switchboard over two real files, a listener on port 0.

mod changes;
mod roles;
mod safety;
mod stage;
mod views;
