//! Each role against h2.

use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request as Asked, Response};

use super::*;

/// All of a body, and its trailers.
async fn read(mut body: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

async fn write(out: &mut SendStream<Bytes>, mut body: &[u8]) -> Result<(), h2::Error> {
    while !body.is_empty() {
        out.reserve_capacity(body.len());
        let room = match out.capacity() {
            0 => match poll_fn(|cx| out.poll_capacity(cx)).await {
                Some(room) => room?,
                None => return Ok(()),
            },
            room => room,
        };
        let (piece, rest) = body.split_at(room.min(body.len()));
        out.send_data(Bytes::copy_from_slice(piece), false)?;
        body = rest;
    }
    Ok(())
}

/// A server of h2 that answers with what came.
fn h2_echo(io: DuplexStream, window: u32) -> JoinHandle<()> {
    spawn_local(async move {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(window).max_concurrent_streams(10).enable_connect_protocol();
        let mut connection = builder.handshake::<_, Bytes>(io).await.expect("a client");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            spawn_local(async move {
                let interim = Response::builder().status(103).header("link", "</a>").body(()).expect("it can be said");
                respond.send_informational(interim).expect("the client waits");
                let mut head = Response::builder().header("x-path", request.uri().path());
                head.headers_mut().expect("it can be said").extend(request.headers().clone());
                let (body, trailers) = read(request.into_body()).await.expect("a body");
                let bare = body.is_empty() && trailers.is_none();
                let head = head.body(()).expect("it can be said");
                let mut out = respond.send_response(head, bare).expect("the client waits");
                if !bare {
                    write(&mut out, &body).await.expect("the client takes it");
                    match trailers {
                        Some(trailers) => out.send_trailers(trailers).expect("the client waits"),
                        None => out.send_data(Bytes::new(), true).expect("the client waits"),
                    }
                }
            });
        }
    })
}

#[test]
fn a_client_is_understood_by_h2() {
    for window in [1_000, 65_535, 1 << 20] {
        run(async move {
            let (near, far) = tokio::io::duplex(10_000);
            let server = h2_echo(far, window);
            let own = Config { stream_window: window, connection_window: window.max(65_535), ..config() };
            let (sender, driver) = open(near, &own).await;
            let tasks: Vec<_> = (0..60)
                .map(|n| {
                    let sender = sender.clone();
                    spawn_local(async move {
                        let body = pattern([0, 1, 100, 16_384, 70_000][n % 5]);
                        ready(&sender).await.expect("there is room");
                        let (mut answered, mut out) = sender
                            .send_request(
                                |head| {
                                    head.request(b"POST", b"http", b"test", format!("/{n}").as_bytes());
                                    head.field(b"x-n", format!("{}", n % 7).as_bytes());
                                },
                                body.is_empty(),
                            )
                            .expect("there is room");
                        if !body.is_empty() {
                            let body = body.clone();
                            spawn_local(async move {
                                pour(&mut out, &body, 5_000, n % 2 == 0).await.expect("it goes");
                                if n % 2 == 1 {
                                    out.send_trailers([(&b"x-sum"[..], &b"1"[..])]).expect("they go");
                                }
                            });
                        }
                        let interim = poll_fn(|cx| answered.poll_interim(cx)).await.expect("an interim answer");
                        assert_eq!((interim.status, interim.get(b"link")), (103, Some(&b"</a>"[..])));
                        assert!(poll_fn(|cx| answered.poll_interim(cx)).await.is_none());
                        let (head, mut inflow) = head_of(&mut answered).await.expect("an answer");
                        assert_eq!(head.get(b"x-path"), Some(format!("/{n}").as_bytes()));
                        assert_eq!(head.get(b"x-n"), Some(format!("{}", n % 7).as_bytes()));
                        assert!(body_of(&mut inflow).await.expect("a body") == body);
                        let trailers = trailers_of(&mut inflow).await.expect("trailers");
                        assert_eq!(trailers.len(), usize::from(!body.is_empty() && n % 2 == 1));
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
            assert_eq!((sender.streams_max(), sender.is_extended_connect()), (Some(10), true));
            drop(sender);
            assert_eq!(driver.await.expect("no panic"), Ok(()));
            server.await.expect("no panic");
        });
    }
}

/// Answers with what came, behind an interim answer.
async fn echo_with_interim(taken: Taken) {
    let Taken { request, mut inflow, mut respond } = taken;
    respond.send_informational(103, [(&b"link"[..], &b"</a>"[..])]).expect("the client waits");
    let body = body_of(&mut inflow).await.expect("a body");
    let trailers = trailers_of(&mut inflow).await.expect("trailers");
    let write = |head: &mut crate::proxy::http2::head::HeadWriter<'_>| {
        head.status(200);
        head.field(b"x-path", request.path().expect("it has one"));
        head.field(b"x-authority", request.authority().expect("it has one"));
        request.fields().for_each(|(name, value)| head.field(name, value));
    };
    if trailers.is_empty() && body.len() < 20_000 {
        return respond.send_whole(write, &body).expect("the client waits");
    }
    let mut out = respond.send_response(write, false).expect("the client waits");
    pour(&mut out, &body, 30_000, trailers.is_empty()).await.expect("it goes");
    if !trailers.is_empty() {
        out.send_trailers(trailers.iter().map(|(name, value)| (&name[..], &value[..]))).expect("they go");
    }
}

#[test]
fn a_server_is_understood_by_h2() {
    for window in [1_000, 65_535, 1 << 20] {
        run(async move {
            let (near, far) = tokio::io::duplex(10_000);
            let own = Config {
                stream_window: window,
                connection_window: window.max(65_535),
                streams_max: Some(9),
                ..config()
            };
            let server = serve(far, own, echo_with_interim);
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window.max(65_535));
            let (sender, connection) = builder.handshake::<_, Bytes>(near).await.expect("a server");
            let driver = spawn_local(connection);
            let tasks: Vec<_> = (0..60)
                .map(|n| {
                    let sender = sender.clone();
                    spawn_local(async move {
                        let body = pattern([0, 1, 100, 16_384, 70_000][n % 5]);
                        let request = Asked::builder().method("POST").uri(format!("http://test/{n}")).header("x-n", n);
                        let request = request.body(()).expect("it can be said");
                        let mut sender = sender.ready().await.expect("there is room");
                        let (answer, mut out) = sender.send_request(request, body.is_empty()).expect("there is room");
                        if !body.is_empty() {
                            write(&mut out, &body).await.expect("it goes");
                            if n % 2 == 0 {
                                out.send_data(Bytes::new(), true).expect("it goes");
                            } else {
                                let trailers =
                                    [(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("1"))];
                                out.send_trailers(trailers.into_iter().collect()).expect("they go");
                            }
                        }
                        let answer = answer.await.expect("an answer");
                        assert_eq!(answer.headers()["x-path"], format!("/{n}"));
                        assert_eq!(
                            (&answer.headers()["x-authority"], &answer.headers()["x-n"]),
                            (&"test".parse().unwrap(), &n.into())
                        );
                        let (came, trailers) = read(answer.into_body()).await.expect("a body");
                        assert!(came == body);
                        assert_eq!(trailers.is_some(), !body.is_empty() && n % 2 == 1);
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic");
            }
            drop(sender);
            driver.await.expect("no panic").expect("it ends well");
            assert_eq!(server.await.expect("no panic"), Ok(()));
        });
    }
}
