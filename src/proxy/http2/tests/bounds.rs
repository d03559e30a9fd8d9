//! What a peer by hand may have an end of the engine hold, and that who holds too much goes on once it is gone.

use super::super::frame::PING;
use super::peer::*;
use super::scene::*;
use super::*;

#[test]
fn a_peer_is_read_again_once_all_that_waited_for_it_has_gone_at_once() {
    run(async {
        let mut scene = Scene::new(config()).await;
        let mut taken = scene.take(&get(1)).await;
        // It wakes who drives the connection, and by then too much waits for more to be read.
        scene.raw.send(&ping(0, [1; 8])).await;
        let large = |head: &mut super::super::head::HeadWriter<'_>| {
            head.status(200);
            (0..20).for_each(|_| head.field(b"date", &[b'v'; 10_000]));
        };
        taken.respond.send_whole(large, b"").expect("it waits");
        drop(taken);
        assert_eq!(scene.raw.next_of(PING).await.payload, [1; 8]);
    });
}
