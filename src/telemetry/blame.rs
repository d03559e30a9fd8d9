//! Which routes a pool's errors came by: a bounded list of one worker's, written only when something failed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::count::Count;

/// Routes that are told apart, per pool and worker: the first that had an error. The rest is one number.
pub const ROUTES_MAX: usize = 32;

/// What stands for the routes beyond [`ROUTES_MAX`].
pub const OTHER_ROUTES: &str = "(other routes)";

/// What stands for requests that came by no route, such as those of a pinned listener.
pub const NO_ROUTE: &str = "(no route)";

/// One worker's errors of a pool by route.
#[derive(Debug, Default)]
pub struct RouteErrors(OnceLock<Box<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    named: [Slot; ROUTES_MAX],
    rest: Count,
}

#[derive(Debug, Default)]
struct Slot {
    route: OnceLock<Box<str>>,
    errors: Count,
}

// === impl RouteErrors ===

impl RouteErrors {
    /// Counts an error; only the owning thread may call it.
    #[cold]
    pub fn count(&self, route: Option<&str>) {
        let route = route.unwrap_or(NO_ROUTE);
        let slots = self.0.get_or_init(Box::default);
        let slot = slots.named.iter().find(|slot| **slot.route.get_or_init(|| route.into()) == *route);
        slot.map_or(&slots.rest, |slot| &slot.errors).add(1);
    }

    /// Adds what was counted to `sum`, by route.
    pub fn add_to(&self, sum: &mut BTreeMap<String, u64>) {
        let Some(slots) = self.0.get() else { return };
        let named = slots.named.iter().filter_map(|slot| Some((&**slot.route.get()?, slot.errors.value())));
        for (route, errors) in named.chain([(OTHER_ROUTES, slots.rest.value())]).filter(|(_, errors)| *errors > 0) {
            *sum.entry(route.to_owned()).or_default() += errors;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_route_and_the_list_has_an_end() {
        let errors = RouteErrors::default();
        let mut none = BTreeMap::new();
        errors.add_to(&mut none);
        assert!(none.is_empty());
        for _ in 0..3 {
            errors.count(None);
            (0..ROUTES_MAX + 9).for_each(|n| errors.count(Some(&format!("route-{n}"))));
        }
        let mut sum = BTreeMap::new();
        errors.add_to(&mut sum);
        assert_eq!(sum.len(), ROUTES_MAX + 1);
        assert_eq!((sum[NO_ROUTE], sum["route-0"], sum["route-30"], sum[OTHER_ROUTES]), (3, 3, 3, 30));
    }
}
