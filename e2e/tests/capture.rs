//! The rules of capture alone, in a network of their own: what no test on a cluster can do to them. Needs root, `ip` and `nft`, and no
//! cluster. In place of server and sidecar stand two programs that say who they are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests: whatever goes wrong fails the test")]
#![allow(clippy::print_stdout, reason = "how many connections went where, for `--nocapture`")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use mcp_policy_e2e::{
    net::{Net, ip},
    wait::until,
};

const SERVER: &str = "server";
const SIDECAR: &str = "sidecar";
/// Long enough for an answer on one machine, short enough to wait for one that must not come.
const PATIENCE: Duration = Duration::from_secs(2);

/// Under load the next connection matters more than the one that hangs.
const IMPATIENCE: Duration = Duration::from_millis(200);

/// What is done in such a network here.
trait Talk {
    fn listen(&self, address: &str, name: &'static str) -> Listening;
    fn connect(&self, address: &str) -> Result<Connection, ErrorKind>;
    fn dial(&self, address: &str) -> Result<String, ErrorKind>;
    fn until_refused(&self, address: &str);
}

impl Talk for Net {
    /// Listens in the pod on a port of this address, and answers each line with a name.
    fn listen(&self, address: &str, name: &'static str) -> Listening {
        let address: SocketAddr = address.parse().unwrap();
        Self::inside(&self.pod, move || Listening::start(TcpListener::bind(address).unwrap(), name))
    }

    fn connect(&self, address: &str) -> Result<Connection, ErrorKind> {
        let address: SocketAddr = address.parse().unwrap();
        Self::inside(&self.peer, move || Connection::open(address, PATIENCE))
    }

    /// Dials from beside the pod: who answers.
    fn dial(&self, address: &str) -> Result<String, ErrorKind> {
        self.connect(address).and_then(|mut connection| connection.ask())
    }

    /// Waits until nobody is reached there. A listener that was closed can live on for a moment, in a child that another test starts.
    fn until_refused(&self, address: &str) {
        until(&format!("{address} refuses"), || match self.dial(address) {
            Err(ErrorKind::ConnectionRefused) => Ok(()),
            Ok(name) if name == SERVER => panic!("{address}: the server was reached"),
            other => Err(format!("{other:?}")),
        });
    }
}

/// One that answers each line with its name, and can speak unasked.
struct Listening {
    ends: Arc<AtomicBool>,
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<thread::JoinHandle<()>>,
    leave: mpsc::Sender<()>,
}

impl Listening {
    fn start(listener: TcpListener, name: &'static str) -> Self {
        let address = listener.local_addr().unwrap();
        let (ends, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (leave, left) = mpsc::channel::<()>();
        let (flag, streams) = (Arc::clone(&ends), Arc::clone(&accepted));
        listener.set_nonblocking(true).unwrap();
        let thread = thread::spawn(move || {
            while !flag.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    // Wakes up at once when it shall end.
                    let _ = left.recv_timeout(Duration::from_millis(1));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let mut streams = streams.lock().unwrap();
                // Under load nobody is spoken to.
                if streams.len() < 8 {
                    streams.push(stream.try_clone().unwrap());
                }
                thread::spawn(move || {
                    let mut answers = stream.try_clone().unwrap();
                    for line in BufReader::new(stream).lines() {
                        if line.is_err() || writeln!(answers, "{name}").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { ends, address, accepted, thread: Some(thread), leave }
    }

    fn speak(&self) {
        for stream in self.accepted.lock().unwrap().iter_mut() {
            writeln!(stream, "unasked").unwrap();
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.leave.send(());
        self.thread.take().unwrap().join().unwrap_or_else(|_| panic!("the listener at {} failed", self.address));
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr, patience: Duration) -> Result<Self, ErrorKind> {
        let stream = TcpStream::connect_timeout(&address, patience).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(patience)).unwrap();
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self) -> Result<String, ErrorKind> {
        self.0.get_mut().write_all(b"who?\n").map_err(|error| error.kind())?;
        self.hear()
    }

    fn hear(&mut self) -> Result<String, ErrorKind> {
        let mut line = String::new();
        match self.0.read_line(&mut line).map_err(|error| error.kind())? {
            0 => Err(ErrorKind::UnexpectedEof),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

/// Dials the server over and over while something is done; counts who answered.
fn under_load(net: &Net, work: impl FnOnce()) -> (usize, usize, usize) {
    let ends = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = ["10.99.0.2:8080", "[fd99:0::2]:8080"]
        .map(|address| {
            let (ends, address) = (Arc::clone(&ends), address.parse().unwrap());
            Net::inside(&net.peer, move || {
                thread::spawn(move || {
                    let mut counts = (0, 0, 0);
                    while !ends.load(Ordering::Relaxed) {
                        match Connection::open(address, IMPATIENCE).and_then(|mut connection| connection.ask()).as_deref() {
                            Ok(SIDECAR) => counts.0 += 1,
                            Ok(_) => counts.1 += 1,
                            Err(_) => counts.2 += 1,
                        }
                    }
                    counts
                })
            })
        })
        .into();
    work();
    ends.store(true, Ordering::Relaxed);
    load.into_iter().map(|thread| thread.join().unwrap()).fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2))
}

#[test]
fn rules_replaced_200_times_under_load_let_nothing_through_and_cut_nothing() {
    let net = Net::new();
    let (_server, _sidecar) = (net.listen("[::]:8080", SERVER), net.listen("[::]:14140", SIDECAR));
    net.capture();
    let addresses = ["10.99.0.2:8080", "[fd99:0::2]:8080"];
    let mut old: Vec<_> = (0..40).map(|i| net.connect(addresses[i % 2]).unwrap()).collect();
    let (sidecar, server, errors) = under_load(&net, || {
        for _ in 0..200 {
            net.capture();
        }
    });
    println!("one transaction: {sidecar} to the sidecar, {server} to the server, {errors} without answer");
    assert_eq!(server, 0, "connections reached the server");
    assert!(sidecar > 200, "no load");
    for connection in &mut old {
        assert_eq!(connection.ask().as_deref(), Ok(SIDECAR), "an established connection was cut");
    }

    // What others do. It is here so that the test above can fail.
    let (sidecar, server, errors) = under_load(&net, || {
        for _ in 0..200 {
            net.nft("flush ruleset");
            net.capture();
        }
    });
    println!("flush and append: {sidecar} to the sidecar, {server} to the server, {errors} without answer");
    assert!(server > 0, "flushing first leaves no gap?");
}

#[test]
fn a_connection_that_is_older_than_the_rules_is_cut_whoever_speaks_first() {
    let net = Net::new();
    let (server, _sidecar) = (net.listen("[::]:8080", SERVER), net.listen("[::]:14140", SIDECAR));
    for address in ["10.99.0.2:8080", "[fd99:0::2]:8080"] {
        net.nft("flush ruleset");
        let mut asked = net.connect(address).unwrap();
        let mut told = net.connect(address).unwrap();
        assert_eq!((asked.ask().as_deref(), told.ask().as_deref()), (Ok(SERVER), Ok(SERVER)));
        net.capture();
        assert!(asked.ask().is_err(), "{address}: the server answers on a connection that is older than the rules");
        server.speak();
        let heard = told.hear();
        assert!(told.ask().is_err(), "{address}: the server answers on a connection on which it spoke first: {heard:?}");
        server.accepted.lock().unwrap().clear();
    }
}

#[test]
fn an_address_and_an_interface_that_come_later_are_captured() {
    let net = Net::new();
    let (_server, _sidecar) = (net.listen("[::]:8080", SERVER), net.listen("[::]:14140", SIDECAR));
    net.capture();
    net.plug("net1", 1);
    ip(&format!("-n {} addr add 10.99.0.77/24 dev eth0", net.pod));
    for address in ["10.99.1.2:8080", "[fd99:1::2]:8080", "10.99.0.77:8080"] {
        assert_eq!(net.dial(address).as_deref(), Ok(SIDECAR), "{address}");
    }
}

#[test]
fn what_is_not_tcp_and_what_hits_the_sidecar_itself_is_refused() {
    let net = Net::new();
    let _sidecar = net.listen("[::]:14140", SIDECAR);
    let server = Net::inside(&net.pod, || UdpSocket::bind("[::]:5353").unwrap());
    let caller = Net::inside(&net.peer, || UdpSocket::bind("[::]:0").unwrap());
    for socket in [&server, &caller] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let mut buffer = [0; 16];
    caller.send_to(b"before", "[fd99:0::2]:5353").unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), 6, "the network does not lead there");
    net.capture();
    let port = caller.local_addr().unwrap().port();
    caller.send_to(b"after", "[::ffff:10.99.0.2]:5353").unwrap();
    // What the pod itself asks is answered, and comes after what must not arrive.
    let asking = Net::inside(&net.pod, || UdpSocket::bind("[::]:0").unwrap());
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    asking.send_to(b"question", format!("[fd99:0::1]:{port}")).unwrap();
    let (_, from) = loop {
        // The refusal of the packet before is told here.
        if let Ok(got) = caller.recv_from(&mut buffer) {
            break got;
        }
    };
    caller.send_to(b"answer", from).unwrap();
    assert_eq!(asking.recv(&mut buffer).unwrap(), 6);
    server.set_nonblocking(true).unwrap();
    assert_eq!(server.recv(&mut buffer).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock), "UDP arrived");
    for address in ["10.99.0.2:14140", "[fd99:0::2]:14140"] {
        net.until_refused(address);
    }
}

#[test]
fn a_port_refuses_while_nobody_listens_there_as_it_does_without_the_sidecar() {
    let net = Net::new();
    let sidecar = net.listen("[::]:14140", SIDECAR);
    net.capture();
    let _inside = net.listen("127.0.0.1:8081", SERVER);
    for host in ["10.99.0.2", "[fd99:0::2]"] {
        let (port, loopback) = (format!("{host}:8080"), format!("{host}:8081"));
        net.until_refused(&port);
        net.until_refused(&loopback);
        // By the canary the capture proves itself, although nobody listens there.
        assert_eq!(net.dial(&format!("{host}:14142")).as_deref(), Ok(SIDECAR));
        let server = net.listen("[::]:8080", SERVER);
        assert_eq!(net.dial(&port).as_deref(), Ok(SIDECAR), "{port}");
        drop(server);
        net.until_refused(&port);
    }
    let _server = net.listen("[::]:8080", SERVER);
    drop(sidecar);
    net.until_refused("10.99.0.2:8080");
}
