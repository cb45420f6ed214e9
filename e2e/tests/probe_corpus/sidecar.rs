//! The sidecar in a pod, with no operator to be reached.

use std::{
    sync::mpsc,
    thread::{self, JoinHandle},
};

use mcp_policy_e2e::net::Net;
use mcp_policy_sidecar::config::{Config, ENV_OPERATOR, ENV_POD_NAME, ENV_POD_NAMESPACE, ENV_PROBES};
use rustix::{process::Uid, thread::set_thread_res_uid};
use tokio::sync::oneshot;

/// As whom the sidecar runs: the rules of capture let nobody else dial the server.
const UID: u32 = 14140;

pub struct Sidecar {
    ends: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sidecar {
    /// With the environment that the operator would give it.
    pub fn start(net: &Net, probes: String) -> Self {
        let (ends, end) = oneshot::channel();
        let (listens, listening) = mpsc::channel();
        let run = move || {
            let uid = Uid::from_raw(UID);
            set_thread_res_uid(uid, uid, uid).unwrap();
            let config = Config::from_env(|name| match name {
                ENV_OPERATOR => Some("https://127.0.0.1:1".to_owned()),
                ENV_POD_NAMESPACE | ENV_POD_NAME => Some("a".to_owned()),
                ENV_PROBES => Some(probes.clone()),
                _ => None,
            });
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let _bound = mcp_policy_sidecar::run(config.unwrap(), std::io::sink()).unwrap();
                listens.send(()).unwrap();
                let _ = end.await;
            });
        };
        let thread = Net::inside(&net.pod, move || thread::spawn(run));
        listening.recv().expect("the sidecar does not start");
        Self { ends: Some(ends), thread: Some(thread) }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.ends.take());
        self.thread.take().unwrap().join().expect("the sidecar failed");
    }
}
