//! The route of a request is the first in order of precedence that matches on its own, the decision is the same each
//! time, and what says why a pool was chosen is true of the request.

use std::net::IpAddr;
use std::sync::LazyLock;

use weir::model::{Limits, Why};
use weir::routing::matcher::contains;
use weir::routing::path::{has_dot_segments, is_ambiguous};
use weir::routing::table::Table;

use super::http::{STRANGER, request};
use super::world::{SNAPSHOT, TOKEN, decided};

/// Each route as the only one.
static ALONE: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let routes = SNAPSHOT.table.routes().iter();
    routes.map(|route| Table::new(std::slice::from_ref(&route.spec), |_| (route.service, route.pool))).collect()
});

/// Routes and decides a request from two clients, one of which may override.
pub(crate) fn check(bytes: &[u8]) {
    let Ok(Some((head, _))) = request(bytes, &Limits::default()) else { return };
    let friend = IpAddr::from([198, 51, 100, 9]);
    for client in [STRANGER, friend] {
        let found = SNAPSHOT.table.find_index(&head, client);
        assert_eq!(found, ALONE.iter().position(|table| table.find(&head, client).is_some()));
        let decision = decided(&head, client);
        assert_eq!(decision, decided(&head, client));
        let Ok(decision) = decision else { continue };
        assert!(!is_ambiguous(head.path()) && !has_dot_segments(head.path()));
        let service = &SNAPSHOT.services[decision.service];
        let pool = &service.pools[decision.pool];
        let holds = match decision.why {
            Why::Weight | Why::Bucket | Why::Header | Why::ClientIp => pool.weight > 0,
            Why::Path => head.path() == pool.prefix || head.path().starts_with(&format!("{}/", pool.prefix)),
            Why::Route => found == decision.route && found.is_some(),
            Why::Override => {
                let token = head.value("x-weir-override-token") == Some(TOKEN.as_bytes());
                let named = head.value("x-weir-pool") == Some(pool.name.as_bytes());
                named && (token || contains(&service.spec.pool_override.networks, client))
            }
            Why::Listener | Why::Drain | Why::Cohort | Why::Kill | Why::Failover | Why::Spill | Why::Retry => false,
        };
        assert!(holds, "{decision:?} of {:?}", head.target());
        assert_eq!(decision.direct.is_some(), decision.why == Why::Path);
        assert!(!decision.issue || decision.bucket.is_some());
    }
}
