//! Containers that become endpoints by their labels: `weir.service`, `weir.pool`, `weir.port`. The engine is asked for
//! a list whenever something happened, and now and then; a container that was told to stop gets no new request while it
//! still runs, before any name server notices. Which of a pool's endpoints gets a request is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::upstreams::Upstreams;
use crate::model::DockerSpec;
use crate::outside::docker::{Container, Docker, DockerError, Event, Events};

/// Longest time without a list: events do not say everything, such as a network that is joined.
const ROUND: Duration = Duration::from_secs(30);

/// How long events are gathered before the list is asked for: a container that starts says several things.
const GATHER: Duration = Duration::from_millis(20);

/// Time between two tries while the engine is away.
const AGAIN: Duration = Duration::from_secs(1);

/// After this a container that was told to stop and runs on is taken back.
const STOPPING_MAX: Duration = Duration::from_secs(600);

/// Containers in all that become endpoints; more are left out and told.
const FOUND_MAX: usize = 1024;

/// What was made of a list of containers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// Addresses by `service/pool`.
    found: BTreeMap<String, Vec<SocketAddr>>,
    /// What is wrong with labels, a line each.
    notes: BTreeSet<String>,
}

/// What is known beside the list.
#[derive(Debug, Default)]
struct Known {
    /// Containers that were told to stop, and when.
    stopping: HashMap<String, Instant>,
    /// The networks that weir itself is in; empty outside of a container.
    own_networks: Vec<String>,
    /// What has been told of labels.
    told: BTreeSet<String>,
}

/// Looks for containers for ever, while any pool wants them.
pub async fn follow(upstreams: Arc<Upstreams>, spec: DockerSpec) {
    let docker = Docker::new(spec.engine.clone());
    let mut wanted = upstreams.names().wants_containers();
    let mut known = Known::default();
    let mut well = true;
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let Err(error) = watch(&docker, &upstreams, &spec, &mut known, &mut well).await else { continue };
        upstreams.names().lost(error.to_string());
        if std::mem::take(&mut well) {
            tracing::warn!(%error, "containers cannot be looked for; those that were found are kept");
        }
        sleep(AGAIN).await;
    }
}

/// Keeps the list true until nobody wants it any more, or the engine is lost.
async fn watch(
    docker: &Docker,
    upstreams: &Upstreams,
    spec: &DockerSpec,
    known: &mut Known,
    well: &mut bool,
) -> Result<(), DockerError> {
    // Before the list, so that nothing happens between the two unseen.
    let mut events = docker.events(&format!("{}.service", spec.label)).await?;
    known.own_networks = own_networks(docker).await?;
    let wanted = upstreams.names().wants_containers();
    while *wanted.borrow() {
        let containers = docker.containers(&format!("{}.service", spec.label)).await?;
        let now = Instant::now();
        known.stopping.retain(|_, since| now.duration_since(*since) < STOPPING_MAX);
        let sorted = sort(&containers, spec, known);
        for note in sorted.notes.difference(&known.told) {
            tracing::warn!("{note}");
        }
        known.told = sorted.notes;
        upstreams.names().found(sorted.found);
        if !std::mem::replace(well, true) {
            tracing::info!(engine = %spec.engine, "containers are looked for again");
        }
        // What ends the stream ends this list: what happens meanwhile would not be seen.
        let Ok(next) = timeout(ROUND, events.next()).await else { continue };
        known.heed(next.ok_or_else(|| gone(spec))?);
        known.gather(&mut events, spec).await?;
    }
    Ok(())
}

fn gone(spec: &DockerSpec) -> DockerError {
    DockerError::Answer { engine: spec.engine.to_string(), what: "the end of its events".into() }
}

/// The networks that weir is in when it runs in a container: its host name is the beginning of its own id.
async fn own_networks(docker: &Docker) -> Result<Vec<String>, DockerError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let id = name.trim();
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Ok(if is_id { docker.networks_of(id).await?.unwrap_or_default() } else { Vec::new() })
}

// === impl Known ===

impl Known {
    fn heed(&mut self, event: Event) {
        match event {
            Event::Stopping(id) => {
                self.stopping.insert(id, Instant::now());
            }
            Event::Turned(id) => {
                self.stopping.remove(&id);
            }
            Event::Other => {}
        }
    }

    /// Takes in what else happens within a moment.
    async fn gather(&mut self, events: &mut Events, spec: &DockerSpec) -> Result<(), DockerError> {
        let until = Instant::now() + GATHER;
        while let Ok(next) = timeout_at(until, events.next()).await {
            self.heed(next.ok_or_else(|| gone(spec))?);
        }
        Ok(())
    }
}

/// Which containers are endpoints of which pool.
fn sort(containers: &[Container], spec: &DockerSpec, known: &Known) -> Sorted {
    let mut sorted = Sorted::default();
    let label = |container: &Container, key: &str| container.labels.get(&format!("{}.{key}", spec.label)).cloned();
    for container in containers {
        let Some(service) = label(container, "service") else { continue };
        let serves = container.healthy.unwrap_or(true) && !known.stopping.contains_key(&container.id);
        let mut note = |what: String| sorted.notes.insert(format!("container {}: {what}", container.name));
        let Some(pool) = label(container, "pool") else {
            note(format!("has the label {0}.service and no {0}.pool", spec.label));
            continue;
        };
        let port = match port(container, label(container, "port")) {
            Ok(port) => port,
            Err(what) => {
                note(format!("{what}; give it the label {}.port", spec.label));
                continue;
            }
        };
        let network = label(container, "network").or_else(|| spec.network.clone());
        let Some(ip) = address(container, network.as_deref(), &known.own_networks) else {
            note(match network {
                Some(network) => format!("is not in the network {network}"),
                None => "has no address".into(),
            });
            continue;
        };
        let pool = sorted.found.entry(format!("{service}/{pool}")).or_default();
        if serves {
            pool.push(SocketAddr::new(ip, port));
        }
    }
    bound(&mut sorted);
    sorted
}

/// Holds the number of endpoints within its bound; in a set order, so that the same list comes to the same endpoints.
fn bound(sorted: &mut Sorted) {
    let mut left = FOUND_MAX;
    for (pool, addresses) in &mut sorted.found {
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.len() > left {
            sorted.notes.insert(format!("{pool}: more than {FOUND_MAX} containers in all; the rest is left out"));
            addresses.truncate(left);
        }
        left -= addresses.len();
    }
}

/// The port of its label, else the only one that its image exposes.
fn port(container: &Container, label: Option<String>) -> Result<u16, String> {
    match (label, container.ports.len()) {
        (Some(text), _) => match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(format!("has a label that is no port: \"{}\"", text.escape_debug())),
        },
        (None, 1) => container.ports.first().copied().ok_or_else(String::new),
        (None, 0) => Err("exposes no port".into()),
        (None, many) => Err(format!("exposes {many} ports")),
    }
}

/// Its address in the network that was named, else in one that weir is in too, else in the first by name.
fn address(container: &Container, network: Option<&str>, own_networks: &[String]) -> Option<IpAddr> {
    let networks = &container.networks;
    match network {
        Some(network) => networks.get(network).copied(),
        None => {
            let shared = networks.iter().find(|(name, _)| own_networks.contains(name));
            shared.or(networks.iter().next()).map(|(_, ip)| *ip)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str, labels: &[(&str, &str)], networks: &[(&str, u8)], healthy: Option<bool>) -> Container {
        let text = |(key, value): &(&str, &str)| (format!("weir.{key}"), (*value).to_owned());
        Container {
            id: id.into(),
            name: format!("shop_{id}_1"),
            labels: labels.iter().map(text).collect(),
            networks: networks.iter().map(|(name, last)| ((*name).to_owned(), [10, 0, 0, *last].into())).collect(),
            healthy,
            ports: BTreeSet::new(),
        }
    }

    const CANARY: [(&str, &str); 3] = [("service", "engine"), ("pool", "canary"), ("port", "8080")];

    fn addresses(sorted: &Sorted, pool: &str) -> Vec<String> {
        sorted.found.get(pool).into_iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn a_container_serves_while_it_is_healthy_and_was_not_told_to_stop() {
        let all = [
            container("a", &CANARY, &[("front", 1)], None),
            container("b", &CANARY, &[("front", 2)], Some(true)),
            container("c", &CANARY, &[("front", 3)], Some(false)),
            container("d", &CANARY, &[("front", 4)], None),
        ];
        let mut known = Known::default();
        known.heed(Event::Stopping("d".into()));
        let spec = DockerSpec::default();
        assert_eq!(addresses(&sort(&all, &spec, &known), "engine/canary"), ["10.0.0.1:8080", "10.0.0.2:8080"]);
        known.heed(Event::Turned("d".into()));
        assert_eq!(addresses(&sort(&all, &spec, &known), "engine/canary").len(), 3);
    }

    #[test]
    fn a_pool_whose_containers_all_stop_is_known_and_empty() {
        let mut known = Known::default();
        known.heed(Event::Stopping("a".into()));
        let sorted = sort(&[container("a", &CANARY, &[("front", 1)], None)], &DockerSpec::default(), &known);
        assert_eq!(sorted.found.get("engine/canary"), Some(&Vec::new()));
    }

    #[test]
    fn the_network_is_the_one_named_else_one_shared_with_weir_else_the_first() {
        let networks = [("back", 1), ("front", 2), ("zone", 3)];
        let plain = container("a", &CANARY, &networks, None);
        let labelled = container("a", &[&CANARY[..], &[("network", "zone")]].concat(), &networks, None);
        let spec = DockerSpec::default();
        let pick = |container: &Container, spec: &DockerSpec, own: &[&str]| {
            let own_networks = own.iter().map(|&name| name.to_owned()).collect();
            let sorted = sort(std::slice::from_ref(container), spec, &Known { own_networks, ..Known::default() });
            addresses(&sorted, "engine/canary").concat()
        };
        assert_eq!(pick(&plain, &spec, &[]), "10.0.0.1:8080");
        assert_eq!(pick(&plain, &spec, &["front"]), "10.0.0.2:8080");
        assert_eq!(pick(&labelled, &spec, &["front"]), "10.0.0.3:8080");
        let named = DockerSpec { network: Some("back".into()), ..spec.clone() };
        assert_eq!(pick(&plain, &named, &["front"]), "10.0.0.1:8080");
        let elsewhere = DockerSpec { network: Some("nowhere".into()), ..spec };
        assert_eq!(pick(&plain, &elsewhere, &[]), "");
    }

    #[test]
    fn labels_that_do_not_hold_are_told_with_the_container_and_leave_the_others_alone() {
        let mut exposing = container("e", &CANARY[..2], &[("front", 5)], None);
        exposing.ports = [9000].into();
        let all = [
            container("a", &CANARY[..1], &[("front", 1)], None),
            container("b", &CANARY[..2], &[("front", 2)], None),
            container("c", &[&CANARY[..2], &[("port", "http")]].concat(), &[("front", 3)], None),
            container("d", &CANARY, &[], None),
            exposing,
        ];
        let sorted = sort(&all, &DockerSpec::default(), &Known::default());
        assert_eq!(addresses(&sorted, "engine/canary"), ["10.0.0.5:9000"]);
        let notes: Vec<&str> = sorted.notes.iter().map(String::as_str).collect();
        assert_eq!(
            notes,
            [
                "container shop_a_1: has the label weir.service and no weir.pool",
                "container shop_b_1: exposes no port; give it the label weir.port",
                "container shop_c_1: has a label that is no port: \"http\"; give it the label weir.port",
                "container shop_d_1: has no address",
            ]
        );
    }

    #[test]
    fn the_number_of_endpoints_is_bounded_and_the_rest_is_told() {
        let many: Vec<Container> = (0..=FOUND_MAX)
            .map(|n| {
                let mut one = container(&n.to_string(), &CANARY, &[], None);
                one.networks = [("front".to_owned(), [10, 1, (n >> 8) as u8, n as u8].into())].into();
                one
            })
            .collect();
        let sorted = sort(&many, &DockerSpec::default(), &Known::default());
        assert_eq!(addresses(&sorted, "engine/canary").len(), FOUND_MAX);
        assert_eq!(sorted.notes.len(), 1);
    }
}
