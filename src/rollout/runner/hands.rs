//! Tells the changes of others from the runner's own: it knows the weights that it left behind. Pure.

use crate::model::Weights;

/// The weights as the runner knows them.
#[derive(Debug)]
pub(super) struct Hands {
    known: Option<Weights>,
}

// === impl Hands ===

impl Hands {
    /// What is live before the runner touched anything.
    pub(super) fn new(live: Option<Weights>) -> Self {
        Self { known: live }
    }

    /// These are the runner's own, or were noticed by another way.
    pub(super) fn forgive(&mut self, live: Option<Weights>) {
        self.known = live.or(self.known.take());
    }

    /// Whether somebody else left these; asked once for each.
    pub(super) fn others(&mut self, live: &Weights) -> bool {
        let other = self.known.as_ref().is_some_and(|known| known != live);
        if self.known.as_ref() != Some(live) {
            self.known = Some(live.clone());
        }
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Name, Weight};

    fn weights(canary: u32) -> Weights {
        let entry = |name: &str, weight| (Name::new(name).unwrap(), Weight::Relative(weight));
        Weights::new(vec![entry("stable", 100 - canary), entry("canary", canary)]).unwrap()
    }

    #[test]
    fn a_change_of_another_hand_is_told_once_and_an_own_one_never() {
        let mut hands = Hands::new(Some(weights(0)));
        assert!(!hands.others(&weights(0)));
        hands.forgive(Some(weights(5)));
        assert!(!hands.others(&weights(5)));
        assert!(hands.others(&weights(20)));
        assert!(!hands.others(&weights(20)));
    }
}
