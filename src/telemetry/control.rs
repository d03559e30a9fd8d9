//! Counters of rare events and of the control side, through the `metrics` facade. Nothing that happens per request
//! goes here: each bump is two shared read-modify-writes (metrics-util `recency.rs`).

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::names::{ALL, Kind};

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder of the process. Later calls do nothing; when another recorder is there already, the control
/// side's counters are missing from the exposition and nothing else changes.
pub fn install() {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        for metric in ALL {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
            }
        }
        Some(handle)
    });
}

/// The exposition of the recorder; empty before [`install`].
pub fn render() -> String {
    HANDLE.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// Drains sample buffers; to be called every few seconds, or histograms of the facade grow without end
/// (metrics-exporter-prometheus does so itself only when it runs its own listener).
pub fn upkeep() {
    if let Some(Some(handle)) = HANDLE.get() {
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn what_the_facade_counts_is_in_the_exposition() {
        install();
        install();
        metrics::counter!(names::ADMIN_CHANGES.name, "action" => "undo").increment(2);
        upkeep();
        let text = render();
        assert!(text.contains("# TYPE weir_admin_changes_total counter\n"), "{text}");
        assert!(text.contains("weir_admin_changes_total{action=\"undo\"} 2\n"), "{text}");
    }
}
