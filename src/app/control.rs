//! The control side that may be stopped and started again while traffic goes on: the admin API and the engine of the
//! rollouts. It rests while another process takes over.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::log::LogLevelSwitch;
use super::{plane, sockets, tasks};
use crate::admin::access::Access;
use crate::admin::board::Board;
use crate::admin::health::Readiness;
use crate::admin::routes::Admin;
use crate::admin::serve::serve;
use crate::admin::upgrade::Upgrades;
use crate::rollout::desk::Desk;
use crate::rollout::engine;
use crate::switchboard::writer::Switchboard;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::count::Sharded;
use crate::telemetry::meter::WorkerShard;
use crate::telemetry::pair::Tap;
use crate::tls::site::Site;

/// What the control side is made of.
pub(super) struct Control {
    pub(super) socket: Socket,
    pub(super) access: Access,
    /// What it speaks TLS from; none: plain HTTP.
    pub(super) site: Option<Arc<Site>>,
    pub(super) log_level: LogLevelSwitch,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) workers: Arc<Sharded<WorkerShard>>,
    pub(super) access_log: Arc<AccessLog>,
    pub(super) pairs: Arc<Tap>,
    pub(super) readiness: Arc<Readiness>,
    pub(super) upgrades: Arc<Upgrades>,
}

/// The control side at work; the admin API ends when `stop` is dropped.
pub(super) struct AtWork {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    /// Hands on who is told what happens.
    follow: JoinHandle<()>,
    desk: Desk,
}

// === impl Control ===

impl Control {
    /// Starts the engine and the admin API, which takes up what was kept.
    pub(super) async fn start(&self) -> io::Result<AtWork> {
        let listener = sockets::listen_admin(&self.socket)?;
        let config = self.switchboard.config();
        let spec = config.rollouts.clone();
        let enabled = spec.enabled;
        let main = std::path::absolute(&config.path).unwrap_or_else(|_| config.path.clone());
        let directory = main.parent().map(Into::into);
        let (state_dir, notifications) = (Some(spec.state_dir), config.notifications.clone());
        let parts = engine::Parts { enabled, tick: spec.tick, state_dir, directory, notifications };
        let desk = engine::start(self.switchboard.clone(), parts).await;
        let follow = tokio::spawn(tasks::follow_notifications(self.switchboard.clone(), desk.clone()));
        let log_level = self.log_level.clone();
        let board = Board {
            switchboard: self.switchboard.clone(),
            desk: desk.clone(),
            rollouts_enabled: enabled,
            workers: self.workers.clone(),
            access_log: self.access_log.clone(),
            pairs: self.pairs.clone(),
            upgrades: self.upgrades.clone(),
            explain: Box::new(plane::explain),
            log_level: Box::new(move |text| log_level.set(text).map_err(|error| error.to_string())),
        };
        desk.retain(config.rollouts.retention);
        let (stop, stopped) = oneshot::channel::<()>();
        let admin = Admin::new(board, self.access.clone(), self.readiness.clone());
        let served = serve(listener, self.site.clone(), admin, async {
            // The sender being dropped is the sign.
            let _ = stopped.await;
        });
        let task = tokio::spawn(async {
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin API ended; traffic goes on");
            }
        });
        Ok(AtWork { stop, task, follow, desk })
    }
}

// === impl AtWork ===

impl AtWork {
    /// Lets go of everything that only one process may hold: nobody is let in any more (who comes waits for the next
    /// process), rollouts stand still, and the journal is written.
    pub(super) async fn rest(self) {
        drop(self.stop);
        self.follow.abort();
        self.desk.close().await;
        // What is being answered is answered; its task ends by itself.
        drop(self.task);
    }

    /// Ends it; what is being answered gets `patience`.
    pub(super) async fn end(self, patience: Duration) {
        self.follow.abort();
        drop(self.stop);
        let _ = timeout(patience, self.task).await;
    }
}
