//! A server that answers one probe, and writes down what it was asked.

use std::{
    net::TcpListener as Listener,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response};
use mcp_policy_e2e::net::Net;
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::kubelet::{Asks, Probe, check};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Up,
    /// Says that it is not healthy.
    Failing,
    /// Answers too late.
    Slow,
    /// Serves another name than the one it is asked by.
    OtherHost,
    Down,
}

impl State {
    /// How long the kubelet waits for an answer.
    pub fn patience(self) -> Duration {
        if self == Self::Slow { Duration::from_millis(150) } else { Duration::from_secs(10) }
    }
}

#[derive(Clone)]
struct Served {
    probe: Probe,
    state: State,
    heard: Arc<Mutex<Vec<String>>>,
}

pub struct Server {
    heard: Arc<Mutex<Vec<String>>>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in the pod, unless it is down.
    pub fn start(net: &Net, probe: &Probe, state: State) -> Self {
        let heard = Arc::default();
        let served = Served { probe: probe.clone(), state, heard: Arc::clone(&heard) };
        let port = probe.port;
        let task = (state != State::Down).then(|| {
            let listener = Net::inside(&net.pod, move || Listener::bind(("::", port)).unwrap());
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(served.clone().connection(stream));
                }
            })
        });
        Self { heard, task }
    }

    /// Listens no more: what it was asked.
    pub async fn stop(self) -> Vec<String> {
        if let Some(task) = self.task {
            task.abort();
            let _ = task.await;
        }
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

impl Served {
    async fn connection(self, stream: TcpStream) {
        match &self.probe.asks {
            Asks::Connects | Asks::Http { tls: false, .. } => self.http(stream).await,
            Asks::Http { tls: true, .. } => {
                if let Ok(stream) = TlsAcceptor::from(tls()).accept(stream).await {
                    self.http(stream).await;
                }
            }
            Asks::Grpc { .. } => drop(self.grpc(stream).await),
        }
    }

    async fn http(self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            head.push(char::from(byte));
        }
        let host = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
        let knows = host == Some(self.probe.host());
        // The order of headers, how their names are written, and what is said of the connection, says nothing.
        let mut lines: Vec<_> = head
            .trim_end()
            .lines()
            .map(|line| match line.split_once(": ") {
                Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
                None => line.to_owned(),
            })
            .filter(|line| !line.starts_with("connection: "))
            .collect();
        lines[1..].sort();
        self.heard.lock().unwrap().push(lines.join("\n"));
        let status = match self.state {
            State::Up if knows => "200 OK",
            State::Up | State::OtherHost => "421 Misdirected Request",
            State::Failing => "500 Internal Server Error",
            State::Slow | State::Down => {
                let _ = stream.read_u8().await;
                return;
            }
        };
        let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nok").as_bytes()).await;
    }

    async fn grpc(self, stream: TcpStream) -> Result<(), h2::Error> {
        let mut connection = h2::server::handshake(stream).await?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (head, mut body) = request.into_parts();
            let served = self.clone();
            // The connection must go on for the body to come.
            tokio::spawn(async move {
                let mut message = Vec::new();
                while let Some(data) = body.data().await {
                    message.extend(data?);
                }
                let mut lines: Vec<_> = head.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
                lines.sort();
                served.heard.lock().unwrap().push(format!("{} {}\n{}\n{message:?}", head.method, head.uri, lines.join("\n")));
                let Asks::Grpc { service, .. } = &served.probe.asks else { return Ok(()) };
                let knows = served.state != State::OtherHost && head.uri.authority().is_some_and(|name| *name == served.probe.host());
                let answer = Response::builder().header("content-type", "application/grpc");
                match served.state {
                    State::Slow => drop(std::future::poll_fn(|cx| respond.poll_reset(cx)).await),
                    _ if !knows || check(service) != message => {
                        respond.send_response(answer.header("grpc-status", "7").body(()).unwrap(), true)?;
                    }
                    state => {
                        let health: &[u8] = if state == State::Up { b"\0\0\0\0\x02\x08\x01" } else { b"\0\0\0\0\x02\x08\x02" };
                        let mut sending = respond.send_response(answer.body(()).unwrap(), false)?;
                        sending.send_data(Bytes::from_static(health), false)?;
                        sending.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]))?;
                    }
                }
                Ok::<_, h2::Error>(())
            });
        }
        Ok(())
    }
}

fn tls() -> Arc<ServerConfig> {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider())).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_no_client_auth().with_single_cert(vec![certificate.into()], key).unwrap())
}
