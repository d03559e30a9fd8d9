//! Starts a runner for each rollout and watches it: one that falls over is replaced by one that goes on from what was
//! published last, as after a restart of the process. The traffic stays where it is meanwhile.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::super::journal::Kept;
use super::super::machine::{Input, Rollout};
use super::super::view::View;
use super::drive::Drive;
use super::levers::{self, Fence};
use super::office::{ORDERS_MAX, Office, Order, Seat};
use crate::model::rollout::Share;

/// Falls of one rollout's runner within [`FALLS_WITHIN`] after which it is left alone.
const FALLS_MAX: u32 = 5;

/// See [`FALLS_MAX`].
const FALLS_WITHIN: Duration = Duration::from_secs(600);

/// Pause before a runner is replaced, so that one that falls at once does not spin.
const AGAIN: Duration = Duration::from_millis(200);

/// A seat for `rollout`, published as it is; nothing runs yet.
pub(in crate::rollout) fn seat(
    office: &Office,
    rollout: Rollout,
    beside: Vec<u8>,
) -> (Arc<Seat>, mpsc::Receiver<Order>) {
    let (orders, received) = mpsc::channel(ORDERS_MAX);
    // What was counted and said before a restart is seen at once, and not only from the first tick on.
    let view = office.view_of(Kept { rollout: rollout.clone(), beside: beside.clone() });
    let seat = Seat {
        id: rollout.id,
        service: rollout.plan.service,
        orders,
        view: ArcSwap::from_pointee(view),
        fence: Fence::default(),
        drilling: false.into(),
        records: Mutex::default(),
        beside: Mutex::new(beside),
    };
    (Arc::new(seat), received)
}

/// Runs a rollout to its end, whatever happens to its runners.
pub(in crate::rollout) async fn guard(
    office: Arc<Office>,
    seat: Arc<Seat>,
    mut orders: mpsc::Receiver<Order>,
    mut first: Input,
) {
    let (mut falls, mut since) = (0, Instant::now());
    loop {
        let rollout = seat.view.load().rollout.clone();
        let (relay, relayed) = mpsc::channel(ORDERS_MAX);
        let drive = Drive::new(Arc::clone(&office), Arc::clone(&seat), rollout, relayed);
        let mut running = office.spawn(drive.run(first));
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                // Orders outlive a runner that falls: they wait here for the next one.
                Some(order) = orders.recv() => if relay.send(order).await.is_err() {
                    tracing::warn!(rollout = seat.id, "an order met a runner that had ended");
                },
            }
        };
        let Err(fallen) = ended else { return };
        if fallen.is_cancelled() {
            return;
        }
        office.counts.restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if since.elapsed() > FALLS_WITHIN {
            (falls, since) = (0, Instant::now());
        }
        falls += 1;
        let message = format!("the runner of rollout {} fell over ({falls} times); traffic stays as it is", seat.id);
        office.alarm(&seat.service, Some(&seat.id), message.clone());
        if falls >= FALLS_MAX {
            let view = seat.view.load_full();
            seat.view.store(Arc::new(View { trouble: Some(message), ..View::clone(&view) }));
            return;
        }
        tokio::time::sleep(AGAIN).await;
        let plan = seat.view.load().rollout.plan.clone();
        first = Input::Recovered { live: levers::live_share(&office.switchboard, &plan).unwrap_or(Share::ZERO) };
    }
}
