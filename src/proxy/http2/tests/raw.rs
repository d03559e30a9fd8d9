//! Peers by hand.
