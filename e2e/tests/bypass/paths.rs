//! Every way over the network to a server: of two equal pods the one without a policy is reached, and the other is not.

use std::thread;

use mcp_policy_e2e::{
    cluster::{busybox, command, run},
    forward::Forward,
    pod::Pod,
    sandbox::Sandbox,
    table::Table,
    wait::{until, until_true},
};
use serde_json::Value;

/// It answers everything, on two ports that the manifest names and on one that it does not, and writes a line for each connection.
const SERVER: &str = "trap exit TERM; mkdir /tmp/w && echo reached > /tmp/w/index.html; \
    for port in 8080 8081 9000; do httpd -f -vvv -p $port -h /tmp/w & done; wait";
const IDLE: &str = "trap exit TERM; sleep 3600 & wait";

/// Two pods that differ in their label only, their Services, and who tries to reach them.
struct Scene {
    sandbox: Sandbox,
    open: Pod,
    guarded: Pod,
    neighbour: Pod,
    /// In the node's network, with the rights of its administrator.
    node: Pod,
}

fn twin(name: &str, host_port: u16) -> String {
    let image = busybox();
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {name}}}}}, spec: {{terminationGracePeriodSeconds: 1, containers: [
           {{name: server, image: '{image}', command: [sh, -c, '{SERVER}'], ports: [{{containerPort: 8080, hostPort: {host_port}}}, {{containerPort: 8081}}]}},
           {{name: other, image: '{image}', command: [sh, -c, '{IDLE}']}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {{app: {name}}},
           ports: [{{name: declared, port: 80, targetPort: 8080}}, {{name: undeclared, port: 90, targetPort: 9000}}]}}}}\n---\n\
         {{apiVersion: v1, kind: Service, metadata: {{name: {name}-headless}}, spec: {{clusterIP: None, selector: {{app: {name}}}, ports: [{{port: 8080}}]}}}}"
    )
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new("paths");
        sandbox.policy("all", "selector: {matchLabels: {app: guarded}}, default: deny");
        sandbox.until_condition("all", "Accepted", "True");
        for (name, host_port) in [("open", 18080), ("guarded", 18081)] {
            until(&format!("{name} is admitted"), || sandbox.try_apply(&twin(name, host_port)));
        }
        sandbox.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: node}}, spec: {{hostNetwork: true, hostPID: true, terminationGracePeriodSeconds: 1, containers: [
               {{name: server, image: '{}', securityContext: {{privileged: true}}, command: [sh, -c, '{IDLE}']}}]}}}}",
            busybox()
        ));
        let neighbour = sandbox.neighbour();
        for pod in ["open", "guarded", "node"] {
            until(&format!("{pod} is ready"), || {
                sandbox.try_kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=20s"])
            });
        }
        let scene = Self { open: sandbox.pod("open"), guarded: sandbox.pod("guarded"), node: sandbox.pod("node"), neighbour, sandbox };
        assert!(scene.guarded.injected() && !scene.open.injected());
        for twin in [&scene.open, &scene.guarded] {
            scene.debugger(twin);
        }
        scene
    }

    fn debugger(&self, pod: &Pod) {
        let arguments = ["debug", &pod.name, "--image", busybox(), "--container", "debugger", "--quiet", "--", "sh", "-c", IDLE];
        self.sandbox.kubectl(&arguments);
        until_true("the debug container runs", || pod.shell_in("debugger", "true").is_ok());
    }

    fn service(&self, pod: &Pod) -> Value {
        serde_json::from_str(&self.sandbox.kubectl(&["get", "service", &pod.name, "-o", "json"])).unwrap()
    }

    /// The address of the Service of that family.
    fn cluster_ip(&self, pod: &Pod, v6: bool) -> String {
        let service = self.service(pod);
        let mut addresses = service["spec"]["clusterIPs"].as_array().unwrap().iter().filter_map(Value::as_str);
        addresses.find(|address| address.contains(':') == v6).expect("the Service has both families").to_owned()
    }

    fn node_port(&self, pod: &Pod, port: usize) -> u16 {
        u16::try_from(self.service(pod)["spec"]["ports"][port]["nodePort"].as_u64().unwrap()).unwrap()
    }

    fn node_address(&self) -> String {
        self.node.object()["status"]["hostIP"].as_str().unwrap().to_owned()
    }

    fn neighbour(&self, address: &str, port: u16) -> Result<String, String> {
        self.neighbour.shell(&wget(address, port))
    }

    fn server_proxy(&self, resource: &str) -> Result<String, String> {
        self.sandbox.try_kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{}/{resource}/proxy/index.html", self.sandbox.namespace())])
    }
}

/// Not `wget -T`: Debian's static busybox crashes on it.
fn wget(address: &str, port: u16) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("timeout 10 wget -q -O - 'http://{host}:{port}/index.html'")
}

fn link_local(pod: &Pod) -> String {
    let told = pod.shell_in("server", "ip -6 -o addr show dev eth0 scope link").unwrap();
    told.split_whitespace().find_map(|word| word.strip_suffix("/64")).expect("eth0 has a link-local address").to_owned()
}

type Way = fn(&Scene, &Pod) -> Result<String, String>;

/// Who dials what, each the same for both pods.
const WAYS: &[(&str, Way)] = &[
    ("another pod: pod address, IPv4, the declared port", |scene, pod| scene.neighbour(&pod.address(false), 8080)),
    ("another pod: pod address, IPv4, a second declared port", |scene, pod| scene.neighbour(&pod.address(false), 8081)),
    ("another pod: pod address, IPv4, a port that no manifest names", |scene, pod| scene.neighbour(&pod.address(false), 9000)),
    ("another pod: pod address, IPv6", |scene, pod| scene.neighbour(&pod.address(true), 8080)),
    ("another pod: pod address, IPv6, a port that no manifest names", |scene, pod| scene.neighbour(&pod.address(true), 9000)),
    ("another pod: link-local address, IPv6", |scene, pod| scene.neighbour(&format!("{}%eth0", link_local(pod)), 8080)),
    ("another pod: Service, `ClusterIP`, IPv4", |scene, pod| scene.neighbour(&scene.cluster_ip(pod, false), 80)),
    ("another pod: Service, `ClusterIP`, IPv6", |scene, pod| scene.neighbour(&scene.cluster_ip(pod, true), 80)),
    ("another pod: Service with a `targetPort` that no manifest names", |scene, pod| scene.neighbour(&scene.cluster_ip(pod, false), 90)),
    ("another pod: headless Service", |scene, pod| scene.neighbour(&format!("{}-headless", pod.name), 8080)),
    ("another pod: `NodePort`", |scene, pod| scene.neighbour(&scene.node_address(), scene.node_port(pod, 0))),
    ("another pod: `NodePort` of a port that no manifest names", |scene, pod| {
        scene.neighbour(&scene.node_address(), scene.node_port(pod, 1))
    }),
    ("another pod: `hostPort`", |scene, pod| scene.neighbour(&scene.node_address(), if pod.name == "open" { 18080 } else { 18081 })),
    ("the node: pod address, IPv4", |scene, pod| scene.node.shell(&wget(&pod.address(false), 8080))),
    ("the node: pod address, IPv6", |scene, pod| scene.node.shell(&wget(&pod.address(true), 8080))),
    ("`kubectl port-forward`", |scene, pod| {
        let forward = Forward::open(scene.sandbox.namespace(), &format!("pod/{}", pod.name), 8080);
        run(
            command("python3").args([
                "-c",
                "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=10)",
                &forward.url().replace("/mcp", "/index.html"),
            ]),
            None,
        )
    }),
    ("the API server's proxy of pods", |scene, pod| scene.server_proxy(&format!("pods/{}:8080", pod.name))),
    ("the API server's proxy of Services", |scene, pod| scene.server_proxy(&format!("services/{}:declared", pod.name))),
    ("another container of the pod: `127.0.0.1`", |_, pod| pod.shell_in("other", &wget("127.0.0.1", 8080))),
    ("another container of the pod: another address of the loopback", |_, pod| pod.shell_in("other", &wget("127.8.8.8", 8080))),
    ("another container of the pod: `::1`", |_, pod| pod.shell_in("other", &wget("::1", 9000))),
    ("another container of the pod: the pod's own address, IPv4", |_, pod| pod.shell_in("other", &wget(&pod.address(false), 8080))),
    ("another container of the pod: the pod's own address, IPv6", |_, pod| pod.shell_in("other", &wget(&pod.address(true), 8080))),
    ("another container of the pod: its link-local address", |_, pod| {
        pod.shell_in("other", &wget(&format!("{}%eth0", link_local(pod)), 8080))
    }),
    ("another container of the pod: the pod's own Service, and back", |scene, pod| {
        pod.shell_in("other", &wget(&scene.cluster_ip(pod, false), 80))
    }),
    ("`kubectl exec` in the server's own container", |_, pod| pod.shell_in("server", &wget("127.0.0.1", 8080))),
    ("`kubectl debug`: a container that was added", |_, pod| pod.shell_in("debugger", &wget("127.0.0.1", 8080))),
];

/// What the caller was told, in few words.
fn outcome(answer: Result<String, String>) -> &'static str {
    let why = answer.expect_err("the server was reached");
    // The API server tells what it was told; `timeout` ends what waits with 143.
    let known = [
        ("404", "the sidecar answers 404"),
        ("could not find the requested resource", "the sidecar answers 404"),
        ("refused", "refused"),
        ("reset", "reset"),
        ("exit code 143", "no answer"),
    ];
    known.into_iter().find(|(told, _)| why.contains(told)).unwrap_or_else(|| panic!("an answer that is not the sidecar's: {why}")).1
}

#[test]
fn of_two_equal_pods_the_one_without_a_policy_is_reached_and_the_other_is_not() {
    let scene = Scene::new();
    let mut table = Table::new(&["who dials what", "without a policy", "with one"]);
    for (way, dial) in WAYS {
        let before = scene.open.accepted();
        if let Err(why) = dial(&scene, &scene.open) {
            assert!(why.contains("404"), "{way}: the network does not lead there: {why}");
        }
        until_true("the server without a policy was reached", || scene.open.accepted() > before);
        let told = outcome(dial(&scene, &scene.guarded));
        assert_eq!(scene.guarded.accepted(), 0, "{way}: the server was reached");
        table.row(&[way, "reached", told]);
    }
    table.append(only_guarded(&scene));
    table.compare("threat-model.md", "paths");
}

/// Ways that are none where nobody guards.
fn only_guarded(scene: &Scene) -> Table {
    let Scene { guarded, neighbour, sandbox, .. } = scene;
    let mut table = Table::new(&[]);
    let mut row = |way: &str, told: &str| {
        assert_eq!(guarded.accepted(), 0, "{way}: the server was reached");
        table.row(&[way, "–", told]);
    };
    let address = guarded.address(false);
    row("another pod: port 14140, the sidecar's own", outcome(neighbour.shell(&wget(&address, 14140))));
    row("another pod: port 14141, health and metrics", outcome(neighbour.shell(&wget(&address, 14141))));
    row("another pod: port 14142, by which the capture proves itself", outcome(neighbour.shell(&wget(&address, 14142))));
    row("another container of the pod: port 14140", outcome(guarded.shell_in("other", &wget("127.0.0.1", 14140))));

    for port in [14140, 14141] {
        let why = guarded.shell_in("other", &format!("httpd -f -p {port} -h /")).unwrap_err();
        assert!(why.contains("Address already in use"), "{why}");
        row(&format!("the app listens on port {port} itself"), "the port is taken");
    }
    // The image of the sidecar has the program that loads the rules; the capability is what it lacks.
    let image = guarded.object()["spec"]["initContainers"][0]["image"].as_str().unwrap().to_owned();
    let flush = ["debug", &guarded.name, "--image", &image, "--container", "flusher", "--quiet", "--", "/usr/sbin/nft", "flush", "ruleset"];
    sandbox.kubectl(&flush);
    let said = || sandbox.try_kubectl(&["logs", &guarded.name, "--container", "flusher"]);
    until_true("nft was not permitted to flush", || said().is_ok_and(|said| said.contains("Operation not permitted")));
    row("root in another container flushes the rules", &format!("not permitted; {}", outcome(neighbour.shell(&wget(&address, 8080)))));

    killed_again_and_again(scene);
    row("the sidecar is killed three times under load", "refused until it is back");

    sandbox.kubectl(&["label", "pod", &guarded.name, "app-"]);
    until_true("the sidecar has heard that nothing selects its pod", || {
        neighbour.shell(&format!("wget -q -O - http://{address}:14141/readyz")).is_err()
    });
    row("the label that selects the pod is taken away", outcome(neighbour.shell(&wget(&address, 8080))));
    table
}

/// While somebody dials without a pause.
fn killed_again_and_again(scene: &Scene) {
    let Scene { guarded, neighbour, node, .. } = scene;
    let load = format!("while [ ! -e /tmp/enough ]; do {} ; done >/tmp/answers 2>&1; true", wget(&guarded.address(false), 8080));
    thread::scope(|scope| {
        scope.spawn(|| neighbour.shell(&load).unwrap());
        for kill in 1..=3 {
            until("the sidecar is found and killed", || {
                node.shell(&format!(
                    "for p in /proc/[0-9]*; do grep -qz '^MCP_POLICY_POD_NAMESPACE={}$' $p/environ 2>/dev/null && kill -9 ${{p#/proc/}} && exit; done; exit 1",
                    guarded.namespace
                ))
            });
            until_true("the kubelet has started it again", || restarts(guarded) >= kill);
        }
        until_true("it answers again", || neighbour.shell(&wget(&guarded.address(false), 8080)).is_err_and(|why| why.contains("404")));
        neighbour.shell("touch /tmp/enough").unwrap();
    });
    let answers = neighbour.shell("cat /tmp/answers").unwrap();
    assert!(answers.contains("404") && answers.contains("refused"), "no load while it was killed: {answers}");
    assert!(!answers.contains("reached"), "{answers}");
}

fn restarts(pod: &Pod) -> u64 {
    let object = pod.object();
    let statuses = object["status"]["initContainerStatuses"].as_array().unwrap();
    let sidecar = statuses.iter().find(|status| status["name"] == "mcp-policy-sidecar").unwrap();
    // It counts at the start of the next life: `running` says that it is there.
    if sidecar["state"]["running"].is_null() { 0 } else { sidecar["restartCount"].as_u64().unwrap() }
}
