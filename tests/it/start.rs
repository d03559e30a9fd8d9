//! Start: what keeps a process from serving is said before it takes a single connection.

use crate::harness::{Setup, Upstream};

#[test]
fn a_second_weir_on_the_port_of_a_running_one_is_refused_and_takes_no_client() {
    let (stable, other) = (Upstream::named("stable"), Upstream::named("other"));
    let weir = Setup::single(&stable).start();
    let address = weir.address();
    let second = Setup::single(&other).text(&format!("[listeners.same]\naddress = \"{address}\"")).try_start();
    let failure = second.expect_err("the port is taken");
    assert_eq!(failure.code, Some(1), "{}", failure.log);
    let said = format!("cannot listen on {address} (listeners.same): another process listens there");
    assert!(failure.log.contains(&said), "{}", failure.log);
    for _ in 0..50 {
        assert_eq!(weir.client().get("/").status, 200);
    }
    assert_eq!((stable.count(), other.count()), (50, 0));
}
