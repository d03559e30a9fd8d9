//! A weights file is taken whole or refused whole, and an edit changes one service's weights and nothing else.

use std::sync::LazyLock;

use weir::config::{Config, WeightsFile, edit};
use weir::model::{Name, Plan, Weight, Weights};

/// Two services, so that an edit of one can touch the other.
static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let text = r#"
services.engine.pools = { stable.endpoints = ["http://127.0.0.1:1"], canary.endpoints = ["http://127.0.0.1:2"] }
services.shop.pools = { stable.endpoints = ["http://127.0.0.1:3"], blue.endpoints = ["http://127.0.0.1:4"] }
routes = [{ service = "engine" }, { service = "shop", match.host = "shop.example" }]
"#;
    Plan::clone(&Config::parse(text, "weir.toml", &|_| None).expect("a configuration").plan)
});

/// Reads a `weights.toml` and edits it.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parse = |text: &str| WeightsFile::parse(text, "weights.toml", &PLAN);
    let before = parse(&text);
    match &before {
        Ok(file) => {
            assert!(file.services.len() == PLAN.services.len() && file.services.iter().all(|(_, it)| it.total() > 0));
        }
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
    for weights in
        [weights(Weight::Relative(3), Weight::Relative(0)), weights(Weight::Percent(1), Weight::Percent(999_999))]
    {
        let Ok(edited) = edit(&text, "engine", &weights) else {
            assert!(before.is_err(), "what can be read can be edited");
            continue;
        };
        assert_eq!(edit(&edited, "engine", &weights).as_ref(), Ok(&edited), "an edit is made once");
        let Ok(before) = &before else { continue };
        let after = parse(&edited).expect("an edited file is a weights file");
        assert_eq!(after.of("shop"), before.of("shop"));
        assert!(
            weights.iter().all(|wanted| after.of("engine").is_some_and(|it| it.iter().any(|found| found == wanted)))
        );
        // With every pool named there is nothing to take out: comments stay.
        assert!(edited.matches('#').count() >= text.matches('#').count(), "{text:?} became {edited:?}");
    }
}

fn weights(stable: Weight, canary: Weight) -> Weights {
    let name = |text| Name::new(text).expect("a name");
    Weights::new(vec![(name("stable"), stable), (name("canary"), canary)]).expect("legal weights")
}
