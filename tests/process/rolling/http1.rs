//! The same at the AWS door, over HTTP/1.1 with connections that are kept.
//!
//! What clients do here by themselves is what those of HTTP/1.1 do: a connection whose answer says
//! `connection: close` is not used again, and a request on a connection that was used before, and closes
//! without the first byte of an answer, is sent again on a new one (RFC 9112, 9.3.1). Calls that change
//! something have a key, so that they may be.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const RESTARTS: usize = 6;

/// A client with one connection at most.
struct Kept {
    address: String,
    connection: Option<tokio::net::TcpStream>,
    asked_to_close: usize,
    sent_again: usize,
}

impl Kept {
    /// What the call `operation` is answered: its status, and its message.
    async fn call(&mut self, operation: &str, key: &str, message: &str) -> (u16, String) {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: proton\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: AwsProton20200720.{operation}\r\nidempotency-key: {key}\r\n\
             content-length: {}\r\n\r\n{message}",
            message.len()
        );
        if let Some(mut kept) = self.connection.take() {
            if let Some(answer) = self.ask(&mut kept, &request).await {
                self.keep(kept, &answer);
                return parted(&answer);
            }
            self.sent_again += 1;
        }
        let mut new = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        new.set_nodelay(true).unwrap();
        let answer = self.ask(&mut new, &request).await;
        let answer = answer.expect("a new connection is answered");
        self.keep(new, &answer);
        parted(&answer)
    }

    /// One answer; `None` if the connection ends before it begins.
    async fn ask(&self, stream: &mut tokio::net::TcpStream, request: &str) -> Option<String> {
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut read = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&read);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = header(head, "content-length").unwrap().parse().unwrap();
                if body.len() >= length {
                    return Some(text.into_owned());
                }
            }
            let ended = match stream.read_buf(&mut read).await {
                Ok(count) => count == 0,
                Err(_) => true,
            };
            if ended {
                let text = String::from_utf8_lossy(&read);
                assert!(read.is_empty(), "an answer was cut off: {text}");
                return None;
            }
        }
    }

    fn keep(&mut self, stream: tokio::net::TcpStream, answer: &str) {
        let (head, _) = answer.split_once("\r\n\r\n").unwrap();
        match header(head, "connection") {
            Some("close") => self.asked_to_close += 1,
            _ => self.connection = Some(stream),
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value))
}

fn parted(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Writes, reads and deletes until it is over: what it has seen of restarts, and how many calls it made.
async fn calls(address: String, caller: usize, over: Arc<AtomicBool>) -> (usize, Kept) {
    let mut client = Kept {
        address,
        connection: None,
        asked_to_close: 0,
        sent_again: 0,
    };
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let name = format!("h{caller}-{number}");
        number += 1;
        let message = format!("{{\"name\":\"{name}\"}}");
        for operation in [
            "CreateServiceTemplate",
            "GetServiceTemplate",
            "DeleteServiceTemplate",
        ] {
            let key = format!("{operation}-{name}");
            let (status, answer) = client.call(operation, &key, &message).await;
            assert_eq!(status, 200, "{operation} {name}: {answer}");
            assert!(answer.contains(&name), "{operation} {name}: {answer}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (3 * number, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_fail_no_call_over_connections_of_http1_that_are_kept() {
    let (folder, state) = state();
    let engine = Running::on(&state).await;
    let (mut pair, address) = Pair::before(&engine, folder.path(), ("aws", "127.0.0.1:0")).await;

    let over = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for caller in 0..CALLERS {
        clients.spawn(calls(address.clone(), caller, Arc::clone(&over)));
    }
    for number in 0..RESTARTS {
        pair.restart(number % 2).await;
    }
    over.store(true, Ordering::Relaxed);
    let (mut count, mut closed, mut again) = (0, 0, 0);
    while let Some(ended) = clients.join_next().await {
        let (calls, client) = ended.unwrap();
        count += calls;
        closed += client.asked_to_close;
        again += client.sent_again;
    }
    println!("{count} calls, asked to close {closed} times, sent again {again} times");
    assert!(count > 100 * CALLERS / 8, "{count}");
    assert!(closed + again >= RESTARTS, "{closed} and {again}");
    // Who is between two calls is closed upon; all others are told.
    assert!(closed > 0);
}
