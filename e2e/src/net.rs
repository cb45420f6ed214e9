//! A pod's network without a cluster: two network namespaces and a cable. Needs root, `ip` and `nft`.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::cluster::{root, run};

/// Two network namespaces and a cable: a pod, and somebody else.
pub struct Net {
    /// The name of the pod's namespace.
    pub pod: String,
    /// That of the other.
    pub peer: String,
}

impl Net {
    /// With one cable, `eth0`: the pod is 10.99.0.2 and `fd99:0::2`.
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let suffix = format!("{}-{}", id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let net = Self { pod: format!("mcpp-pod-{suffix}"), peer: format!("mcpp-peer-{suffix}") };
        for name in [&net.pod, &net.peer] {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        net.plug("eth0", 0);
        net
    }

    /// Lays a cable; the pod has the addresses that end in 2.
    pub fn plug(&self, name: &str, network: u8) {
        let Self { pod, peer } = self;
        ip(&format!("link add {name} netns {pod} type veth peer name {name} netns {peer}"));
        for (namespace, host) in [(peer, 1), (pod, 2)] {
            ip(&format!("-n {namespace} addr add 10.99.{network}.{host}/24 dev {name}"));
            ip(&format!("-n {namespace} addr add fd99:{network}::{host}/64 dev {name} nodad"));
            ip(&format!("-n {namespace} link set {name} up"));
        }
    }

    /// Loads rules in the pod.
    pub fn nft(&self, rules: &str) {
        let mut nft = Command::new("ip");
        run(nft.args(["netns", "exec", &self.pod, "nft", "-f", "-"]), Some(rules.as_bytes())).unwrap_or_else(|why| panic!("nft: {why}"));
    }

    /// Loads the rules of capture.
    pub fn capture(&self) {
        self.nft(&fs::read_to_string(root().join("sidecar/src/capture.nft")).unwrap());
    }

    /// Runs this in the pod, or beside it. Threads that it starts stay there, and so do sockets that it opens.
    pub fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/run/netns/{namespace}");
        let moved = move || {
            move_into_link_name_space(File::open(path).unwrap().as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        thread::spawn(moved).join().unwrap()
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.pod, &self.peer] {
            let _ = run(Command::new("ip").args(["netns", "del", name]), None);
        }
    }
}

/// Runs `ip`.
pub fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' ')), None).unwrap_or_else(|why| panic!("ip {arguments}: {why}"));
}
