//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, and KWOK playing two nodes.
//!
//! One for all tests of the process ([`shared`]): each works in a namespace of its own. It ends with the process; a small shell
//! that waits for that takes its folder away. A test that makes the control plane itself fail has one of its own ([`own`]).

use super::http::{self, Request};
use super::process::Process;
use super::{READY_MAX, poll, ports, require_folder};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use canaryd::cluster::{self, ClusterSettings};
use kube::Client;
use parking_lot::Mutex;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Longest until the API server answers and nodes are ready: 3 to 10 s on a machine that has time, far more on one that has none.
const UP_MAX: Duration = Duration::from_secs(120);
/// Controllers that run; without `node-lifecycle` nodes are never tainted.
const CONTROLLERS: &str = "deployment-controller,replicaset-controller,garbage-collector-controller,endpointslice-controller,\
    namespace-controller,serviceaccount-controller,root-ca-certificate-publisher-controller,disruption-controller,\
    persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,pod-garbage-collector-controller,\
    horizontal-pod-autoscaler-controller,validatingadmissionpolicy-status-controller";
const NODES: [&str; 2] = ["n1", "n2"];
const ETCD: &str = "etcd";
const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS_PROGRAM: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const KWOK: &str = "kwok";
/// Longest an answer of etcd may take.
const ETCD_MAX: Duration = Duration::from_secs(60);
/// What a control plane of one's own writes down: who changed workloads and routes, when it was asked and when it was done.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ ResponseStarted, Panic ]
rules:
- { level: Metadata, verbs: [ create, update, patch ], resources: [ { group: networking.istio.io }, { group: apps } ] }
- { level: None }
";

/// The control plane all tests of this process share; `None` if skipped (see `require`).
///
/// # Panics
/// If it cannot be started.
pub(crate) async fn shared() -> Option<&'static ControlPlane> {
    tokio::task::spawn_blocking(shared_blocking).await.expect("the control plane starts")
}

/// The same for a test without a runtime.
pub(crate) fn shared_blocking() -> Option<&'static ControlPlane> {
    static SHARED: OnceLock<Option<ControlPlane>> = OnceLock::new();
    SHARED.get_or_init(|| ControlPlane::start(false)).as_ref()
}

/// One that a test may hurt; `None` if skipped (see `require`). Blocks.
///
/// # Panics
/// If it cannot be started.
pub(crate) fn own() -> Option<Own> {
    ControlPlane::start(true).map(|plane| Own(Box::leak(Box::new(plane))))
}

/// A running control plane.
pub(crate) struct ControlPlane {
    programs: PathBuf,
    folder: PathBuf,
    /// Port of the API server (TLS).
    pub(crate) port: u16,
    token: String,
    /// Port of etcd (HTTP).
    etcd: u16,
    /// One test's own: its objects are JSON in etcd, where the test may change them, and its writes are written down.
    own: bool,
    processes: Mutex<Vec<Process>>,
    installed: Mutex<BTreeSet<String>>,
    /// Takes the folder away when this process, and with it this pipe, has ended.
    _tidy: std::process::ChildStdin,
}

impl ControlPlane {
    fn start(own: bool) -> Option<Self> {
        let programs = require_folder("kubernetes", "k8s")?;
        let folder = tempfile::Builder::new().prefix("canaryd-kubernetes-").tempdir().expect("a folder").keep();
        let token = format!("admin-{:016x}", folder.display().to_string().bytes().fold(7_u64, |h, b| h.wrapping_mul(31) ^ u64::from(b)));
        let plane = Self {
            programs,
            port: ports::free(),
            etcd: ports::free(),
            token,
            own,
            processes: Mutex::default(),
            installed: Mutex::default(),
            _tidy: tidy(&folder),
            folder,
        };
        plane.bring_up();
        Some(plane)
    }

    fn bring_up(&self) {
        self.write_files();
        self.run_program(ETCD, &self.etcd_arguments());
        self.run_program(API_SERVER, &self.apiserver_arguments());
        self.wait("the API server", |plane| plane.ask("/readyz").then_some(()));
        self.run_controllers();
        for name in NODES {
            self.apply(&node(name));
        }
        self.wait("the controllers", |plane| plane.ask("/api/v1/namespaces/default/serviceaccounts/default").then_some(()));
        self.wait("the nodes", |plane| {
            let ready = plane.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}"]);
            (ready.matches("True").count() == NODES.len()).then_some(())
        });
    }

    fn run_controllers(&self) {
        self.run_program(CONTROLLERS_PROGRAM, &self.controllers_arguments());
        self.run_program(SCHEDULER, &[format!("--config={}", self.path("scheduler.yaml")), "--secure-port=0".to_owned()]);
        self.run_program(KWOK, &self.kwok_arguments());
    }

    fn write_files(&self) {
        let tokens =
            ["admin,admin,system:masters", "kcm,system:kube-controller-manager,", "sched,system:kube-scheduler,", "nobody,nobody,"];
        let line = |who: &&str| {
            let (short, rest) = who.split_once(',').expect("a comma");
            let (user, group) = rest.split_once(',').expect("a second comma");
            format!("{},{user},{short}{}\n", self.token_of(short), if group.is_empty() { String::new() } else { format!(",{group}") })
        };
        fs::create_dir_all(self.folder.join("cert")).expect("a folder");
        fs::write(self.folder.join("tokens.csv"), tokens.iter().map(line).collect::<String>()).expect("written");
        for who in ["admin", "kcm", "sched", "nobody"] {
            self.write_kubeconfig(who, &self.token_of(who), &format!("https://127.0.0.1:{}", self.port));
        }
        let client = format!("clientConnection: {{kubeconfig: {:?}, qps: 500, burst: 1000}}", self.path("sched.kubeconfig"));
        let scheduler = format!(
            "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n{client}\nleaderElection: {{leaderElect: false}}\n"
        );
        fs::write(self.folder.join("scheduler.yaml"), scheduler).expect("written");
        fs::write(self.folder.join("audit.yaml"), AUDIT).expect("written");
        let key = self.path("sa.key");
        let by = |program: &str, arguments: &[&str]| {
            let made = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            made.is_ok_and(|o| o.status.success())
        };
        let made =
            by("openssl", &["genrsa", "-out", &key, "2048"]) || by("ssh-keygen", &["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f", &key]);
        assert!(made, "neither openssl nor ssh-keygen makes the key that signs the tokens of service accounts");
    }

    fn token_of(&self, who: &str) -> String {
        format!("{who}-{}", self.token)
    }

    /// Writes a kubeconfig for a bearer of `token`, and says where.
    fn write_kubeconfig(&self, name: &str, token: &str, server: &str) -> PathBuf {
        let authority = self.path("cert/apiserver.crt");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority": authority}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        });
        let path = self.folder.join(format!("{name}.kubeconfig"));
        fs::write(&path, text.to_string()).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        path
    }

    fn path(&self, below: &str) -> String {
        self.folder.join(below).display().to_string()
    }

    fn run_program(&self, name: &str, arguments: &[String]) {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let process = Process::spawn(name, &self.programs.join(name), &arguments, &self.folder.join(format!("{name}.log")));
        self.processes.lock().push(process);
    }

    fn etcd_arguments(&self) -> Vec<String> {
        let (client, peer) = (format!("http://127.0.0.1:{}", self.etcd), format!("http://127.0.0.1:{}", ports::free()));
        vec![
            "--name=t".to_owned(),
            format!("--data-dir={}", self.path("etcd")),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=t={peer}"),
        ]
    }

    fn apiserver_arguments(&self) -> Vec<String> {
        let key = self.path("sa.key");
        let mut arguments = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", self.path("cert")),
            format!("--token-auth-file={}", self.path("tokens.csv")),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
        ];
        let fixed = [
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged=true",
            // or every new node keeps not-ready:NoSchedule, which node-lifecycle would take away
            "--disable-admission-plugins=TaintNodesByCondition",
            "--profiling=false",
        ];
        arguments.extend(fixed.map(str::to_owned));
        if self.own {
            let (policy, log) = (self.path("audit.yaml"), self.path("audit.log"));
            arguments.extend([format!("--audit-policy-file={policy}"), format!("--audit-log-path={log}")]);
            // what was asked is on disk before it is done
            arguments.extend(["--audit-log-mode=blocking-strict", "--storage-media-type=application/json"].map(str::to_owned));
        }
        arguments
    }

    fn controllers_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--kubeconfig={}", self.path("kcm.kubeconfig")),
            format!("--service-account-private-key-file={}", self.path("sa.key")),
            format!("--root-ca-file={}", self.path("cert/apiserver.crt")),
            format!("--controllers={CONTROLLERS}"),
        ];
        let fixed = ["--leader-elect=false", "--secure-port=0", "--profiling=false", "--use-service-account-credentials=true"];
        arguments.extend(fixed.map(str::to_owned));
        arguments.extend(["--kube-api-qps=500", "--kube-api-burst=1000", "--horizontal-pod-autoscaler-sync-period=1s"].map(str::to_owned));
        arguments
    }

    fn kwok_arguments(&self) -> Vec<String> {
        let stages = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubernetes/kwok-stages.yaml");
        vec![
            format!("--kubeconfig={}", self.path("admin.kubeconfig")),
            "--manage-all-nodes=true".to_owned(),
            "--node-lease-duration-seconds=40".to_owned(),
            "--cidr=100.64.0.1/10".to_owned(),
            "--node-ip=100.127.255.1".to_owned(),
            format!("--server-address=127.0.0.1:{}", ports::free()),
            format!("--config={}", stages.display()),
        ]
    }

    /// Polls until `look` gives something.
    fn wait<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let found = poll(UP_MAX, || {
            self.processes.lock().iter_mut().for_each(Process::assert_alive);
            look(self)
        });
        found.unwrap_or_else(|| panic!("{what}: not ready within {UP_MAX:?}; see {}", self.folder.display()))
    }

    /// Does a GET as the administrator succeed?
    fn ask(&self, path: &str) -> bool {
        // before that kubectl would wait for a certificate authority that is not there
        self.folder.join("cert/apiserver.crt").is_file() && self.try_kubectl(&["get", "--raw", path], None).is_ok()
    }

    // --- what tests use ---

    /// The kubeconfig of the administrator (`admin`), or of a user without rights (`nobody`).
    pub(crate) fn kubeconfig(&self, who: &str) -> PathBuf {
        self.folder.join(format!("{who}.kubeconfig"))
    }

    /// The same for another address, such as a proxy's before the API server.
    pub(crate) fn kubeconfig_at(&self, server: &str) -> PathBuf {
        let name = format!("admin-at-{}", server.rsplit(':').next().unwrap_or("x"));
        self.write_kubeconfig(&name, &self.token_of("admin"), server)
    }

    /// A kubeconfig with a fresh token of a service account that is there.
    pub(crate) fn kubeconfig_of(&self, namespace: &str, account: &str) -> PathBuf {
        let token = self.kubectl(&["create", "token", account, "-n", namespace]);
        self.write_kubeconfig(&format!("{namespace}-{account}"), token.trim(), &format!("https://127.0.0.1:{}", self.port))
    }

    /// Where its programs are.
    pub(crate) fn programs(&self) -> &Path {
        &self.programs
    }

    /// A file in its folder, which goes with it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The API server's certificate authority, PEM.
    pub(crate) fn authority(&self) -> Vec<u8> {
        fs::read(self.folder.join("cert/apiserver.crt")).expect("the API server made it")
    }

    /// A client as the daemon makes it, for one of [`Self::kubeconfig`]'s users.
    pub(crate) async fn client(&self, who: &str) -> Client {
        client_of(&self.kubeconfig(who)).await
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Panics
    /// If it fails.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, None).unwrap_or_else(|e| panic!("kubectl {arguments:?}: {e}"))
    }

    /// The same with an input; what it said on failure.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        // its discovery cache would be shared by all control planes that ever had this port
        let cache = self.path("kubectl-cache");
        let common = ["--request-timeout=60s", "--cache-dir", &cache];
        self.run("kubectl", &[&common[..], arguments].concat(), input)
    }

    /// Runs `kubectl` or `helm` as the administrator; what it said on failure.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        let file = input.map(|text| {
            let file = tempfile::NamedTempFile::new().expect("a file");
            fs::write(file.path(), text).expect("written");
            file
        });
        let stdin = file.as_ref().map_or_else(Stdio::null, |f| fs::File::open(f.path()).expect("just written").into());
        let mut command = Command::new(self.programs.join(program));
        command.env("KUBECONFIG", self.kubeconfig("admin")).args(arguments).stdin(stdin);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, self.folder.join("helm"));
        }
        let output = command.output().unwrap_or_else(|e| panic!("{program}: {e}"));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))) }
    }

    /// Applies an object, or a list of them.
    pub(crate) fn apply(&self, object: &Value) {
        // without the description of every kind, which a server that has much to do takes longer to write than a call may last
        let applied =
            self.try_kubectl(&["apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"], Some(&object.to_string()));
        applied.unwrap_or_else(|e| panic!("{object} is refused: {e}"));
    }

    /// A new namespace.
    pub(crate) fn namespace(&self, name: &str) -> String {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        name.to_owned()
    }

    /// Installs a set of custom resource definitions (`istio`, `gateway-api`, `traefik`), once, and waits until `served`
    /// (a path) answers.
    pub(crate) fn custom_resources(&self, set: &str, served: &str) {
        let mut installed = self.installed.lock();
        if !installed.insert(set.to_owned()) {
            return;
        }
        let file = self.programs.join("crds").join(format!("{set}.yaml")).display().to_string();
        self.kubectl(&["apply", "--server-side", "-f", &file]);
        let answers = poll(READY_MAX, || self.ask(served).then_some(()));
        assert!(answers.is_some(), "{served} is not served within {READY_MAX:?}");
    }

    /// A service account with these rules of a Role in its namespace, and a kubeconfig with its token.
    pub(crate) fn service_account(&self, namespace: &str, name: &str, rules: &Value) -> PathBuf {
        let metadata = json!({"name": name, "namespace": namespace});
        let rbac = "rbac.authorization.k8s.io";
        self.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules},
            {"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
                "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]},
        ]}));
        self.kubeconfig_of(namespace, name)
    }
}

/// A control plane that a test may hurt. It ends with this.
pub(crate) struct Own(&'static ControlPlane);

impl Deref for Own {
    type Target = &'static ControlPlane;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Own {
    /// The API server stops in the middle of whatever it does, and keeps its connections.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let mut processes = self.0.processes.lock();
        processes.iter_mut().filter(|process| process.name() == API_SERVER).for_each(|process| process.signal(signal));
    }

    /// The API server is gone without a word, as it is when its machine is.
    pub(crate) fn kill(&self) {
        let mut processes = self.0.processes.lock();
        let at = processes.iter().position(|process| process.name() == API_SERVER).expect("it runs");
        processes.remove(at).kill();
    }

    /// The same at the moment at which canaryd's write of this number, of this kind of object, has come to it: what became of that
    /// write nobody knows.
    ///
    /// # Panics
    /// If there is none within [`READY_MAX`].
    pub(crate) fn kill_at_write(&self, resource: &str, number: usize) {
        let log = self.0.file("audit.log");
        let is_write = |line: &&str| line.contains("RequestReceived") && line.contains(resource) && line.contains("fieldManager=canaryd");
        let until = Instant::now() + READY_MAX;
        while fs::read_to_string(&log).unwrap_or_default().lines().filter(is_write).count() < number {
            assert!(Instant::now() < until, "no write number {number} of {resource}");
            // a write takes some ms
            std::thread::sleep(Duration::from_micros(200));
        }
        self.kill();
    }

    /// etcd is stopped for a moment, under the API server, and what it has is laid aside by this name.
    pub(crate) fn keep_etcd(&self, name: &str) {
        self.stop(&[API_SERVER, ETCD]);
        copied(&self.0.file("etcd"), &self.0.file(name));
        self.0.run_program(ETCD, &self.0.etcd_arguments());
        self.start_again(&[]);
    }

    /// etcd counts on by so many versions, in which nothing happens.
    pub(crate) fn count_on(&self, versions: usize) {
        let body = json!({ "key": BASE64_STANDARD.encode("counted"), "value": "" });
        (0..versions).for_each(|_| drop(self.etcd("kv/put", &body)));
    }

    /// etcd is put back to what was laid aside, and everything of the cluster's own begins anew, as who restores it is told to do.
    pub(crate) fn restore_etcd(&self, name: &str) {
        self.stop(&[API_SERVER, ETCD, CONTROLLERS_PROGRAM, SCHEDULER, KWOK]);
        fs::remove_dir_all(self.0.file("etcd")).expect("what it had is there");
        copied(&self.0.file(name), &self.0.file("etcd"));
        self.0.run_program(ETCD, &self.0.etcd_arguments());
        self.start_again(&[]);
        self.run_controllers_anew();
    }

    /// The controllers, the scheduler and KWOK begin anew. After a minute without an API server they would look for it again only a
    /// minute later, which is their own affair.
    pub(crate) fn controllers_again(&self) {
        self.stop(&[CONTROLLERS_PROGRAM, SCHEDULER, KWOK]);
        self.run_controllers_anew();
    }

    fn run_controllers_anew(&self) {
        // KWOK holds each node by a lease: to it another KWOK's is in force until it runs out, and it looks again only every 10 s
        self.0.kubectl(&["delete", "leases", "-n", "kube-node-lease", "--all"]);
        self.0.run_controllers();
    }

    fn stop(&self, names: &[&str]) {
        let mut processes = self.0.processes.lock();
        let is_meant = |process: &Process| names.contains(&process.name());
        processes.iter_mut().filter(|process| is_meant(process)).for_each(Process::kill);
        processes.retain(|process| !is_meant(process));
    }

    /// It is started again on what etcd has, with these options besides, and answers when this is back.
    pub(crate) fn start_again(&self, options: &[&str]) {
        let options = options.iter().map(|option| (*option).to_owned());
        self.0.run_program(API_SERVER, &self.0.apiserver_arguments().into_iter().chain(options).collect::<Vec<_>>());
        self.0.wait("the API server", |plane| plane.ask("/readyz").then_some(()));
    }

    /// What canaryd asked the API server to write, as it wrote that down itself: verb and path without its query, and whether that
    /// was done, by the code of its answer. `None`: it was asked, and that is all.
    pub(crate) fn written(&self, resource: &str) -> Vec<(String, Option<u64>)> {
        let log = fs::read_to_string(self.0.file("audit.log")).unwrap_or_default();
        // its last line may be half written when it is killed
        let events: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let is_ours = |e: &&Value| {
            let uri = e["requestURI"].as_str().unwrap_or_default();
            e["objectRef"]["resource"] == resource && uri.contains("fieldManager=canaryd")
        };
        let asked = events.iter().filter(is_ours).filter(|e| e["stage"] == "RequestReceived");
        let done = |id: &Value| events.iter().find(|e| e["auditID"] == *id && e["stage"] == "ResponseComplete");
        asked
            .map(|e| {
                let path = e["requestURI"].as_str().unwrap_or_default().split('?').next().unwrap_or_default();
                let verb = e["verb"].as_str().unwrap_or_default();
                (format!("{verb} {path}"), done(&e["auditID"]).and_then(|done| done["responseStatus"]["code"].as_u64()))
            })
            .collect()
    }

    /// Changes an object where it lies, below `/registry/`, as nobody but a newer API server could: its version rises, its generation
    /// does not.
    pub(crate) fn rewrite(&self, below: &str, change: impl FnOnce(&mut Value)) {
        let key = BASE64_STANDARD.encode(format!("/registry/{below}"));
        let found = self.etcd("kv/range", &json!({ "key": key }));
        let text = found["kvs"][0]["value"].as_str().unwrap_or_else(|| panic!("{below} is not there: {found}"));
        let mut object = serde_json::from_slice(&BASE64_STANDARD.decode(text).expect("base64")).expect("JSON, as was asked for");
        change(&mut object);
        self.etcd("kv/put", &json!({ "key": key, "value": BASE64_STANDARD.encode(object.to_string()) }));
    }

    /// etcd forgets all that is not the present; how things came to be so cannot be asked any more.
    pub(crate) fn compact(&self) {
        // a version nobody has seen: else whoever saw the last one has missed nothing
        let put = self.etcd("kv/put", &json!({ "key": BASE64_STANDARD.encode("compacted"), "value": "" }));
        let revision = put["header"]["revision"].clone();
        self.etcd("kv/compaction", &json!({ "revision": revision, "physical": true }));
    }

    fn etcd(&self, path: &str, body: &Value) -> Value {
        let (path, body) = (format!("/v3/{path}"), body.to_string());
        let request = Request { method: "POST", path: &path, body: body.as_bytes(), ..Request::default() };
        let answer = http::send(self.0.etcd, &request, ETCD_MAX).unwrap_or_else(|e| panic!("etcd {path}: {e}"));
        assert_eq!(answer.status, 200, "etcd {path} {body}: {}", answer.text());
        answer.json()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // SIGKILL each: a terminated API server waits a minute for those that watch
        self.0.processes.lock().clear();
        let _ = fs::remove_dir_all(&self.0.folder);
    }
}

/// A folder and all below it, beside.
fn copied(from: &Path, to: &Path) {
    let made = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(made.is_ok_and(|status| status.success()), "{} is not copied to {}", from.display(), to.display());
}

/// A client as the daemon makes it.
pub(crate) async fn client_of(kubeconfig: &Path) -> Client {
    canaryd::tls::install();
    let settings = ClusterSettings { kubeconfig: Some(kubeconfig.to_owned()), ..ClusterSettings::default() };
    cluster::connect(&settings).await.expect("a usable kubeconfig").expect("it was named")
}

/// A shell that waits until its input ends, which it does with this process, and then takes the folder away.
fn tidy(folder: &Path) -> std::process::ChildStdin {
    // etcd and the others get SIGKILL at the same moment, and may still be writing
    let script = r#"cat >/dev/null; for i in 1 2 3 4 5; do sleep 1; rm -rf "$1" 2>/dev/null && exit; done"#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "tidy"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("sh is there").stdin.take().expect("piped")
}

fn node(name: &str) -> Value {
    let has = json!({"cpu": "1000", "memory": "4Ti", "pods": "5000"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
            "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"allocatable": has, "capacity": has},
    })
}
