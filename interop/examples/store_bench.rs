//! What a shared counter costs, against one local Redis: the time of a call beside that of a bare `PING` on a connection of its own, both
//! directly and over a line that takes a quarter of a millisecond each way, as a network within a data centre does; and calls a second
//! with many under way. `cargo run --release --package mcp-policy-interop --example store_bench`

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a bench prints, and fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mcp_policy::snapshot::StoreCredentials;
use mcp_policy::{Call, Caller, Decision, Policies, PolicyId, ServerName, compile, read};
use mcp_policy_interop::prepared;
use mcp_policy_sidecar::state::State;
use mcp_policy_sidecar::store::StoreAddress;
use serde_json::json;
use tokio::time::sleep;

const CALLS: usize = 20_000;
const FAR_CALLS: usize = 4_000;
const LINE: Duration = Duration::from_micros(250);
const UNDER_WAY: usize = 64;
const TIME: Duration = Duration::from_secs(5);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

async fn passes(state: &State, policies: &Policies) -> bool {
    let caller = Caller::anonymous("10.0.0.1".parse().unwrap());
    let server = ServerName { namespace: "ns", name: "pod" };
    let call = Call { tool: "t", arguments: "", caller: &caller, session: None, server };
    matches!(state.decide(policies, &call).await.outcome.decision, Decision::Allowed(_))
}

/// Median and 99th percentile, in microseconds.
fn percentiles(mut times: Vec<Duration>) -> (u128, u128) {
    times.sort();
    (times[times.len() / 2].as_micros(), times[times.len() * 99 / 100].as_micros())
}

/// A line to that address on which everything takes [`LINE`]: threads that sleep, as a runtime's timers count in milliseconds.
fn far_from(address: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming().map(Result::unwrap) {
            let far = TcpStream::connect(address).unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            delay(near.try_clone().unwrap(), far.try_clone().unwrap());
            delay(far, near);
        }
    });
    here
}

fn delay(mut from: TcpStream, mut to: TcpStream) {
    let (sent, arriving) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut read = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut read) {
            let _ = sent.send((Instant::now() + LINE, read[..count].to_vec()));
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arriving {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
    });
}

/// A sidecar's state that counts in the store at this address, and is connected.
async fn sharing(address: SocketAddr, policies: &Policies) -> State {
    let state = State::default();
    state.share_counters(Some(StoreAddress::parse(&format!("redis://{address}"), StoreCredentials::default()).unwrap()), "ns");
    while !passes(&state, policies).await {
        sleep(Duration::from_millis(10)).await;
    }
    state
}

async fn one_at_a_time(what: &str, address: SocketAddr, policies: &Policies, rounds: usize) {
    let state = sharing(address, policies).await;
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let (mut pings, mut calls) = (Vec::new(), Vec::new());
    // In turns, so that whatever else runs here slows both.
    for _ in 0..rounds {
        let began = Instant::now();
        let () = redis::cmd("PING").query_async(&mut connection).await.unwrap();
        pings.push(began.elapsed());
        let began = Instant::now();
        // One that is refused got no answer in time: the machine is busy with something else.
        if passes(&state, policies).await {
            calls.push(began.elapsed());
        }
    }
    let ((ping, ping_99), (call, call_99)) = (percentiles(pings), percentiles(calls));
    println!("{what}, one at a time: a round trip p50 {ping} µs, p99 {ping_99} µs; a limited call p50 {call} µs, p99 {call_99} µs");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut server = Command::new(prepared::redis_server());
    server.args(["--port", &address.port().to_string(), "--bind", "127.0.0.1", "--save", ""]).stdout(Stdio::null());
    let _server = Server(server.spawn().unwrap());
    let document = json!({"tools": {"t": {"limits": [{"counter": "c", "window": "minute", "max": 1_000_000_000}]}}});
    let policies = Arc::new(Policies::new(vec![compile(PolicyId::new(Some("ns"), "p"), &read::document(&document).unwrap()).unwrap()]));
    let state = Arc::new(sharing(address, &policies).await);

    one_at_a_time("here", address, &policies, CALLS).await;
    one_at_a_time("over a network", far_from(address), &policies, FAR_CALLS).await;

    let began = Instant::now();
    let callers: Vec<_> = (0..UNDER_WAY)
        .map(|_| {
            let (state, policies) = (Arc::clone(&state), Arc::clone(&policies));
            tokio::spawn(async move {
                let mut passed = 0_u32;
                while began.elapsed() < TIME {
                    passed += u32::from(passes(&state, &policies).await);
                }
                passed
            })
        })
        .collect();
    let mut passed = 0;
    for caller in callers {
        passed += caller.await.unwrap();
    }
    println!("{UNDER_WAY} under way: {:.0} limited calls a second", f64::from(passed) / began.elapsed().as_secs_f64());
}
