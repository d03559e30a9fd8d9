//! What waits on many connections, over sockets: it is bounded, who takes what comes is not touched, and nothing stays
//! on the account.

use std::cell::Cell;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};

use super::super::error::{By, Reason};
use super::super::purse::Purse;
use super::*;

/// What may wait, in these tests.
const MAX: usize = 512 * 1024;

/// Both ends of a connection over loopback.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("a connection"), far.expect("a connection").0)
}

/// A purse, and how many streams were given up: by clients, by servers.
fn purse(max: usize) -> (Rc<Purse>, Rc<[Cell<usize>; 2]>) {
    let told: Rc<[Cell<usize>; 2]> = Rc::default();
    let list = Rc::clone(&told);
    let purse = Purse::new(max, move |to_server| {
        let told = &list[usize::from(!to_server)];
        told.set(told.get() + 1);
    });
    (Rc::new(purse), told)
}

/// A client over sockets whose answers are booked, and a server that answers each GET with a megabyte, and takes each
/// POST or lets it lie, as its path says; all of the server's is booked too.
async fn booked(purse: &Rc<Purse>) -> Sender {
    let own = Config { purse: Rc::clone(purse), streams_max: None, connection_window: 16 << 20, ..config() };
    let (near, far) = sockets().await;
    let (sender, _) = open(near, &own).await;
    let own = Config { purse: Rc::clone(purse), ..config() };
    serve(far, own, |mut taken: Taken| async move {
        match (taken.request.method(), taken.request.path()) {
            (b"GET", _) => {
                let Ok(mut out) = taken.respond.send_response(|head| head.status(200), false) else { return };
                let _ = pour(&mut out, &pattern(1 << 20), 10_000, true).await;
            }
            (_, Some(b"/taken")) => {
                let length = body_of(&mut taken.inflow).await.map(|body| body.len());
                let status = if length == Ok(1 << 20) { 200 } else { 400 };
                let _ = taken.respond.send_whole(|head| head.status(status), b"");
            }
            // It lies until the stream is given up.
            _ => drop(poll_fn(|cx| taken.respond.poll_reset(cx)).await),
        }
    });
    ready(&sender).await.expect("there is room");
    sender
}

/// An answer that is taken as it comes, by a task like any other.
async fn take_one(polite: &Sender) {
    let polite = polite.clone();
    let taken = spawn_local(async move {
        let (mut answered, _out) = ask(&polite, "GET", "/", true).await.expect("there is room");
        let (_, mut inflow) = head_of(&mut answered).await.expect("a head");
        body_of(&mut inflow).await.map(|body| body.len())
    });
    assert_eq!(taken.await.expect("no panic"), Ok(1 << 20), "who takes what comes");
}

/// Lets time pass until it is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

#[test]
fn answers_that_nobody_takes_are_given_up_beside_those_that_are_taken() {
    run(async {
        let (purse, told) = purse(MAX);
        let (stalled, polite) = (booked(&purse).await, booked(&purse).await);
        let mut waiting = Vec::new();
        for _ in 0..40 {
            let (mut answered, _out) = ask(&stalled, "GET", "/", true).await.expect("there is room");
            let (_, inflow) = head_of(&mut answered).await.expect("a head");
            waiting.push((inflow, answered, _out));
        }
        until("much waits", || told[0].get() > 0).await;
        for _ in 0..20 {
            take_one(&polite).await;
            // What is spared of each, and what one read brings.
            assert!(purse.held() <= 2 * MAX + 41 * 96 * 1024, "{purse:?}");
        }
        // Sooner or later nothing is left of what lies still.
        for _ in 0..400 {
            if told[0].get() == 40 && purse.held() <= MAX {
                break;
            }
            take_one(&polite).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(purse.held() <= MAX, "{purse:?}");
        let mut cut = 0;
        for (inflow, ..) in &mut waiting {
            match body_of(inflow).await {
                Err(error) => {
                    assert_eq!(error, Error::Reset(Reason::CANCEL, By::Us));
                    cut += 1;
                }
                Ok(body) => assert_eq!(body.len(), 1 << 20, "whole, or visibly cut"),
            }
        }
        assert_eq!((cut, told[1].get()), (told[0].get(), 0));
        drop((waiting, stalled, polite));
        until("nothing is left on the account", || purse.held() == 0).await;
    });
}

#[test]
fn bodies_that_a_server_does_not_take_are_given_up_beside_those_that_it_takes() {
    run(async {
        let (purse, told) = purse(MAX);
        let mut lying = Vec::new();
        for _ in 0..4 {
            let sender = booked(&purse).await;
            for _ in 0..10 {
                let (answered, mut out) = ask(&sender, "POST", "/lies", false).await.expect("there is room");
                out.send_data(Bytes::from(pattern(1 << 20)), true).expect("it waits");
                lying.push((answered, out, sender.clone()));
            }
        }
        until("much waits", || told[1].get() > 0).await;
        let polite = booked(&purse).await;
        for _ in 0..20 {
            let (mut answered, mut out) = ask(&polite, "POST", "/taken", false).await.expect("there is room");
            pour(&mut out, &pattern(1 << 20), 10_000, true).await.expect("it is taken");
            assert_eq!(head_of(&mut answered).await.expect("an answer").0.status, 200);
        }
        let (answered, ..) = &mut lying[0];
        let error = head_of(answered).await.err();
        assert!(matches!(error, Some(Error::Reset(Reason::ENHANCE_YOUR_CALM, By::Peer)) | None), "{error:?}");
        drop((lying, polite));
        until("nothing is left on the account", || purse.held() == 0).await;
    });
}
