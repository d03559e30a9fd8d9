//! A client of the engine and a server of it.

use super::*;

/// Answers with what came: fields, body and trailers.
async fn echo(taken: Taken) {
    let Taken { request, mut inflow, mut respond } = taken;
    let Ok(body) = body_of(&mut inflow).await else { return };
    let trailers = trailers_of(&mut inflow).await.expect("they came");
    let path = request.path().unwrap_or_default().to_vec();
    let head = respond.send_response(
        |head| {
            head.status(200);
            head.field(b"x-path", &path);
            request.fields().for_each(|(name, value)| head.field(name, value));
        },
        false,
    );
    let mut out = head.expect("the client waits");
    if pour(&mut out, &body, 10_000, trailers.is_empty()).await.is_ok() && !trailers.is_empty() {
        let trailers = trailers.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        out.send_trailers(trailers).expect("the client waits");
    }
}

#[test]
fn a_request_is_answered_whole() {
    run(async {
        let (sender, driver, server) = pair(config(), config(), echo).await;
        for n in 0..300 {
            ready(&sender).await.expect("there is room");
            let (mut answered, mut out) = sender
                .send_request(
                    |head| {
                        head.request(b"POST", b"http", b"test", b"/a?b=c#d");
                        head.field(b"x-n", n.to_string().as_bytes());
                        head.field(b"te", b"trailers");
                    },
                    false,
                )
                .expect("there is room");
            out.send_data(Bytes::from_static(b"hello "), false).expect("it goes");
            out.send_data(Bytes::from_static(b"world"), false).expect("it goes");
            out.send_trailers([(&b"x-end"[..], &b"yes"[..])]).expect("they go");
            let (head, mut inflow) = head_of(&mut answered).await.expect("an answer");
            let fields: Vec<_> = head.fields().collect();
            let n = n.to_string();
            let expected = [(&b"x-path"[..], &b"/a?b=c"[..]), (b"x-n", n.as_bytes()), (b"te", b"trailers")];
            assert_eq!((head.status, fields.as_slice()), (200, &expected[..]));
            assert_eq!(body_of(&mut inflow).await.expect("a body"), b"hello world");
            assert_eq!(trailers_of(&mut inflow).await.expect("trailers"), [(b"x-end".to_vec(), b"yes".to_vec())]);
            assert!(inflow.is_end_stream());
        }
        drop(sender);
        assert_eq!((driver.await.expect("no panic"), server.await.expect("no panic")), (Ok(()), Ok(())));
    });
}

#[test]
fn large_bodies_pass_both_ways_through_small_windows() {
    run(async {
        let small = Config { stream_window: 5_000, connection_window: 65_535, ..config() };
        let (sender, ..) = pair(small.clone(), small, echo).await;
        let tasks: Vec<_> = (0..8)
            .map(|n| {
                let sender = sender.clone();
                spawn_local(async move {
                    let (mut answered, mut out) = ask(&sender, "POST", "/", false).await.expect("there is room");
                    let body = pattern(1024 * 1024 - n);
                    let sent = body.clone();
                    let up = spawn_local(async move { pour(&mut out, &sent, 7_777, true).await });
                    let (_, mut inflow) = head_of(&mut answered).await.expect("an answer");
                    assert!(body_of(&mut inflow).await.expect("a body") == body);
                    up.await.expect("no panic").expect("all went");
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
    });
}

#[test]
fn a_body_that_was_handed_over_at_once_goes_as_the_windows_allow() {
    run(async {
        let small = Config { stream_window: 1_000, ..config() };
        let (sender, ..) = pair(small.clone(), small, echo).await;
        let (mut answered, mut out) = ask(&sender, "POST", "/", false).await.expect("there is room");
        out.send_data(Bytes::from(pattern(300_000)), false).expect("it waits");
        out.send_data(Bytes::from(pattern(10)), false).expect("it waits");
        assert!(!out.has_room());
        out.send_trailers([(&b"a"[..], &b"b"[..])]).expect("they wait");
        assert_eq!(out.send_data(Bytes::new(), true), Err(Error::User));
        drop(out);
        let (_, mut inflow) = head_of(&mut answered).await.expect("an answer");
        drop(answered);
        assert!(body_of(&mut inflow).await.expect("a body") == [pattern(300_000), pattern(10)].concat());
        assert_eq!(trailers_of(&mut inflow).await.expect("trailers").len(), 1);
    });
}
