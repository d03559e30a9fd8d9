//! A configuration is taken, and can be served; or refused, with problems that can be shown.

use weir::config::Config;

/// Reads a `weir.toml`.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    // Files that it may name are not the input.
    if text.contains("token_file") {
        return;
    }
    match Config::parse(&text, "weir.toml", &|_| None) {
        Ok(config) => {
            let again = Config::parse(&text, "weir.toml", &|_| None).expect("the same text");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert!(!config.plan.services.is_empty() && !config.plan.routes.is_empty());
            for route in &config.plan.routes {
                assert!(config.plan.services.iter().any(|service| service.name == route.service));
            }
            for service in &config.plan.services {
                assert!(service.pool_index(&service.stable).is_some());
                assert!(service.pools.iter().all(|pool| !pool.origins.is_empty()));
            }
        }
        Err(problems) => {
            assert!(problems.to_string().lines().count() >= problems.len());
            assert!(!problems.to_string().chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
            assert!(serde_json::to_string(&problems).is_ok());
            let lines = text.split('\n').count() as u32;
            assert!(problems.iter().all(|problem| problem.line <= lines));
        }
    }
}
