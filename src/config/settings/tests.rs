use super::*;
use std::fs;
use tempfile::TempDir;

fn env(vars: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>().into_iter()
}

fn flags(given: &[(&str, &str)]) -> Flags {
    given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    }
}

/// The report on a file's text, with the folder's name taken out.
fn report(text: &str) -> String {
    let files = Files::new();
    let file = files.put("canaryd.yaml", text);
    let report = Settings::load(Some(&file), env(&[]), flags(&[])).expect_err(text).to_string();
    report.replace(&format!("{}/", files.0.path().display()), "")
}

#[test]
fn without_a_word_the_defaults_hold() {
    let settings = Settings::load(None, env(&[]), flags(&[])).expect("defaults");
    assert_eq!(settings.listen.to_string(), "127.0.0.1:7878");
    assert_eq!(settings.data, PathBuf::from("canaryd-data"));
    assert_eq!(settings.rules, [PathBuf::from("rules")]);
    assert_eq!(settings.log, LogSettings { format: LogFormat::Text, level: "info".to_owned() });
    assert_eq!((settings.time_scale, settings.retention_days), (1.0, 90));
    assert!(settings.sources.is_empty() && settings.tokens.is_empty() && settings.warnings.is_empty());
}

#[test]
fn each_layer_wins_over_the_one_before() {
    let files = Files::new();
    let text = "listen: 127.0.0.1:1\nretention_days: 7\nlog: { level: warn, format: json }\nrules: [ a, /b ]\n";
    let file = files.put("canaryd.yaml", text);
    let vars = [("CANARYD_LISTEN", "127.0.0.1:2"), ("CANARYD_LOG__LEVEL", "debug"), ("CANARYD_DATA", "there"), ("HOME", "/root")];
    let given = [("listen", "localhost:3")];
    let settings = Settings::load(Some(&file), env(&vars), flags(&given)).expect("valid");
    assert_eq!(settings.listen.to_string(), "127.0.0.1:3", "flag");
    assert_eq!(settings.log, LogSettings { format: LogFormat::Json, level: "debug".to_owned() }, "one member from each layer");
    assert_eq!(settings.retention_days, 7, "file");
    assert_eq!(settings.rules, [files.0.path().join("a"), PathBuf::from("/b")], "relative to the file's folder");
    assert_eq!(settings.data, PathBuf::from("there"), "relative to the working directory");
}

#[test]
fn the_environment_can_name_a_source_and_a_list() {
    let vars = [
        ("CANARYD_SOURCES__MAIN__PROMETHEUS__URL", "http://prometheus:9090/"),
        ("CANARYD_SOURCES__MAIN__PROMETHEUS__TIMEOUT", "3s"),
        ("CANARYD_RULES", "a.yaml, b.yaml"),
    ];
    let settings = Settings::load(None, env(&vars), flags(&[])).expect("valid");
    let SourceKind::Prometheus(main) = &settings.sources[0].kind else { panic!("{:?}", settings.sources) };
    assert_eq!((main.url.as_str(), main.timeout), ("http://prometheus:9090", Duration::from_secs(3)));
    assert_eq!(settings.rules, [PathBuf::from("a.yaml"), PathBuf::from("b.yaml")]);
}

#[test]
fn what_kubernetes_and_our_clients_put_there_is_no_setting() {
    let vars = [
        ("CANARYD_PORT", "tcp://10.0.0.1:7878"),
        ("CANARYD_PORT_7878_TCP_ADDR", "10.0.0.1"),
        ("CANARYD_SERVICE_HOST", "10.0.0.1"),
        ("CANARYD_TOKEN", "hidden"),
        ("CANARYD_SERVER", "http://canaryd:7878"),
        ("CANARYD_CONFIG", "/etc/canaryd.yaml"),
    ];
    assert!(Settings::load(None, env(&vars), flags(&[])).is_ok());
}

#[test]
fn mistakes_outside_the_file_are_told_by_variable_and_flag() {
    let vars = [("CANARYD_RETENTION_DAYS", "soon"), ("CANARYD_LOG__LEVLE", "info"), ("CANARYD_LISEN", "x")];
    let given = [("listen", "nowhere"), ("log.format", "xml")];
    let report = Settings::load(None, env(&vars), flags(&given)).expect_err("wrong").to_string();
    assert_eq!(
        report,
        "--listen: listen: \"nowhere\" is no address: write an IP address and a port, such as 127.0.0.1:7878\n\
         --log-format: log.format: \"xml\" is not known here: known: text, json\n\
         CANARYD_LISEN: lisen: no such key: did you mean \"listen\"?\n\
         CANARYD_LOG__LEVLE: log.levle: no such key: did you mean \"level\"?\n\
         CANARYD_RETENTION_DAYS: retention_days: \"soon\" is not a whole number from 1 to 3650"
    );
}

#[test]
fn mistakes_in_the_file_are_told_by_line_all_at_once() {
    let text = "listen: 127.0.0.1:99999\nretention_day: 4\nlog:\n  level: loud\n  format: json\nsources:\n  main:\n    prometheus:\n      \
                timeout: 5\n      bearer_token_file: nowhere\n  edge: { scrape: { urls: [] } }\ndata: a\ndata: b\ntime_scale: 0\n";
    assert_eq!(
        report(text),
        "canaryd.yaml:1: listen: \"127.0.0.1:99999\" is no address: write an IP address and a port, such as 127.0.0.1:7878\n\
         canaryd.yaml:2: retention_day: no such key: did you mean \"retention_days\"?\n\
         canaryd.yaml:4: log.level: \"loud\" is no log level: write error, warn, info, debug or trace, or such as info,hyper=warn\n\
         canaryd.yaml:6: sources: 2 sources, and none is the default: write default_source: edge\n\
         canaryd.yaml:8: sources.main.prometheus.url: is missing: write its address, such as http://prometheus:9090\n\
         canaryd.yaml:9: sources.main.prometheus.timeout: \"5\" is not a duration such as 500ms, 90s, 15m, 1h30m or 2d\n\
         canaryd.yaml:10: sources.main.prometheus.bearer_token_file: nowhere cannot be read: No such file or directory (os error 2)\n\
         canaryd.yaml:11: sources.edge.scrape.urls: names no address: write at least one\n\
         canaryd.yaml:13: data: written twice, first in line 12: keep one of them\n\
         canaryd.yaml:14: time_scale: \"0\" is not a number from 1 to 1000"
    );
}

#[test]
fn a_file_that_is_no_settings_is_told() {
    assert_eq!(report("- listen\n"), "canaryd.yaml: is no mapping of keys");
    assert!(report("listen: [\n").starts_with("canaryd.yaml:"));
    let missing = Settings::load(Some(Path::new("no/such.yaml")), env(&[]), flags(&[])).expect_err("missing").to_string();
    assert!(missing.starts_with("no/such.yaml: cannot be read: "), "{missing}");
}

#[test]
fn the_default_source_comes_first() {
    let files = Files::new();
    let text = "default_source: west\nsources:\n  east: { scrape: { urls: [ 'http://e:1/metrics' ] } }\n  west: { prometheus: { url: 'http://w:9090' } }\n";
    let file = files.put("canaryd.yaml", text);
    let settings = Settings::load(Some(&file), env(&[]), flags(&[])).expect("valid");
    let names: Vec<&str> = settings.sources.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["west", "east"]);
    assert_eq!(settings.known(["envoy".to_owned()]).sources.len(), 2);
}

#[test]
fn listening_to_the_world_without_tokens_is_refused() {
    for address in ["0.0.0.0:7878", "[::]:7878", "10.1.2.3:80", "[::ffff:10.0.0.1]:80"] {
        let text = format!("listen: '{address}'\n");
        assert_eq!(
            report(&text),
            format!(
                "canaryd.yaml:1: listen: {address} can be reached from other machines, and there are no tokens: \
                 set tokens to a file of name:role:token lines, or listen on 127.0.0.1"
            )
        );
    }
    for address in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:7878", "localhost:0"] {
        assert!(Settings::load(None, env(&[("CANARYD_LISTEN", address)]), flags(&[])).is_ok(), "{address}");
    }
}

#[test]
fn with_tokens_the_world_may_be_listened_to() {
    let files = Files::new();
    files.put("tokens", "ci:operator:0123456789abcdef\n");
    let file = files.put("canaryd.yaml", "listen: 0.0.0.0:7878\ntokens: tokens\n");
    let settings = Settings::load(Some(&file), env(&[]), flags(&[])).expect("valid");
    assert_eq!((settings.tokens[0].name.as_str(), settings.tokens[0].roles.as_slice()), ("ci", [Role::Operator].as_slice()));
}

#[cfg(unix)]
#[test]
fn a_token_file_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let files = Files::new();
    let tokens = files.put("tokens", "ci:operator:0123456789abcdef\n");
    for (mode, warned) in [(0o644, true), (0o600, false), (0o640, false)] {
        fs::set_permissions(&tokens, fs::Permissions::from_mode(mode)).expect("own file");
        let settings = Settings::load(None, env(&[("CANARYD_TOKENS", &tokens.display().to_string())]), flags(&[])).expect("valid");
        assert_eq!(settings.warnings.len(), usize::from(warned), "{mode:o}: {:?}", settings.warnings);
    }
}

#[test]
fn no_secret_is_shown() {
    let files = Files::new();
    files.put("tokens", "ci:operator:TOPSECRET0123456789\n");
    files.put("password", "TOPSECRET");
    let text = "tokens: tokens\nsources:\n  main:\n    prometheus:\n      url: http://p:9090\n      basic: { user: me, password_file: password }\n      \
                headers: { X-Scope-OrgID: TOPSECRET }\n      params: { key: TOPSECRET }\n";
    let file = files.put("canaryd.yaml", text);
    let settings = Settings::load(Some(&file), env(&[]), flags(&[])).expect("valid");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("TOPSECRET"), "{shown}");
    let SourceKind::Prometheus(main) = &settings.sources[0].kind else { panic!("{shown}") };
    assert_eq!(main.headers["X-Scope-OrgID"].expose(), "TOPSECRET");
    assert_eq!(main.auth, SourceAuth::Basic { user: "me".to_owned(), password_file: files.0.path().join("password") });

    let url = report("sources: { main: { prometheus: { url: 'http://me:TOPSECRET@p:9090' } } }\n");
    let header = report("sources: { main: { prometheus: { url: 'http://p', headers: { Authorization: TOPSECRET } } } }\n");
    for report in [url, header] {
        assert!(report.contains("canaryd.yaml:1: ") && !report.contains("TOPSECRET"), "{report}");
    }
}

#[test]
fn a_key_that_looks_like_a_path_is_only_an_unknown_key() {
    let said = report("'rules[999999999999]': a\nlog.level: info\n");
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(said.starts_with("canaryd.yaml:1: rules[999999999999]: no such key"), "{said}");
}

proptest::proptest! {
    #[test]
    fn no_file_or_variable_panics(text in "[-a-z_: \\[\\]{}&*'\"\n0-9.%]{0,80}", name in "[A-Z_.]{0,20}", value in "\\PC{0,20}") {
        let files = Files::new();
        let file = files.put("canaryd.yaml", &text);
        let vars = [(format!("CANARYD_{name}"), value)];
        let _ = Settings::load(Some(&file), vars.into_iter(), flags(&[]));
    }
}

#[test]
fn no_key_reads_as_a_boolean_to_a_yaml_1_1_reader() {
    for key in read::ALL_KEYS.concat() {
        assert!(!["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&key), "{key}");
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{key} is not snake_case");
    }
}

#[test]
fn receivers_are_read_with_their_defaults() {
    let files = Files::new();
    files.put("grafana-token", "glsa_x");
    let text = "external_url: https://canaryd.example.com/\nreceivers:\n  ops:\n    alertmanager: { urls: [ 'http://am-0:9093/', 'http://am-1:9093' ], \
                labels: { team: payments } }\n  graphs:\n    grafana: { url: 'https://g/grafana/', token_file: grafana-token, tags: [ production ] }\n";
    let settings = Settings::load(Some(&files.put("canaryd.yaml", text)), env(&[]), flags(&[])).expect("valid");
    assert_eq!(settings.external_url.as_deref(), Some("https://canaryd.example.com"));
    let ReceiverSettings::Alertmanager(ops) = &settings.receivers["ops"] else { panic!("{settings:?}") };
    assert_eq!(ops.urls, ["http://am-0:9093", "http://am-1:9093"]);
    assert_eq!((ops.labels["team"].as_str(), ops.level, ops.timeout), ("payments", Level::Warning, Duration::from_secs(10)));
    let ReceiverSettings::Grafana(graphs) = &settings.receivers["graphs"] else { panic!("{settings:?}") };
    assert_eq!((graphs.url.as_str(), &graphs.dashboard), ("https://g/grafana", &None));
    assert_eq!(graphs.token_file, files.0.path().join("grafana-token"));
    assert!(settings.known([]).receivers.contains("ops"));
}

#[test]
fn mistakes_in_receivers_are_told_all_at_once() {
    let text = "external_url: canaryd.example.com\nreceivers:\n  ops:\n    alertmanager:\n      urls: []\n      labels: { rule: x, '9a': y }\n      \
                level: loud\n      bearer_token: x\n  graphs:\n    grafana:\n      url: http://g?x=1\n      token_file: nowhere\n      \
                tags: [ 'a,b' ]\n  none: {}\n";
    assert_eq!(
        report(text),
        "canaryd.yaml:1: external_url: \"canaryd.example.com\" is no URL: write http://host:port or https://host/path\n\
         canaryd.yaml:5: receivers.ops.alertmanager.urls: names no address: write at least one\n\
         canaryd.yaml:6: receivers.ops.alertmanager.labels.9a: \"9a\" is no name of a label: write letters, digits and _\n\
         canaryd.yaml:6: receivers.ops.alertmanager.labels.rule: \"rule\" is a label canaryd sets itself: write another name\n\
         canaryd.yaml:7: receivers.ops.alertmanager.level: \"loud\" is not known here: known: info, warning, page\n\
         canaryd.yaml:8: receivers.ops.alertmanager.bearer_token: no such key: known: urls, timeout, bearer_token_file, basic, ca_file, labels, \
         level\n\
         canaryd.yaml:11: receivers.graphs.grafana.url: the address has parameters: write them below params\n\
         canaryd.yaml:12: receivers.graphs.grafana.token_file: nowhere cannot be read: No such file or directory (os error 2)\n\
         canaryd.yaml:13: receivers.graphs.grafana.tags[0]: \"a,b\" has a comma: write two tags\n\
         canaryd.yaml:14: receivers.none: is no receiver: write alertmanager: { urls: [...] } or grafana: { url: ..., token_file: ... }, \
         one of them"
    );
}

#[test]
fn an_election_that_is_described_is_held_unless_it_is_turned_off_and_the_flag_turns_it_on() {
    let files = Files::new();
    let election = |text: &str, given: &[(&str, &str)]| {
        let file = files.put("canaryd.yaml", text);
        Settings::load(Some(&file), env(&[]), flags(given)).expect("valid").cluster.leader_election
    };
    let flag = [("cluster.leader_election.enabled", "true")];
    let named =
        |lease: &str, namespace: Option<&str>| Some(LeaderElection { lease: lease.to_owned(), namespace: namespace.map(str::to_owned) });
    assert_eq!(election("", &[]), None);
    assert_eq!(election("", &flag), named("canaryd", None));
    assert_eq!(election("cluster: { leader_election: { namespace: shop } }", &[]), named("canaryd", Some("shop")));
    assert_eq!(election("cluster: { leader_election: { enabled: false, lease: one } }", &[]), None);
    assert_eq!(election("cluster: { leader_election: { enabled: false, lease: one } }", &flag), named("one", None));
    let wrong = report("cluster: { leader_election: { lease: One, name: x }, resources: perhaps }\n");
    for said in ["\"One\" is no name", "cluster.leader_election.name", "cluster.resources"] {
        assert!(wrong.contains(said), "{said}: {wrong}");
    }
}

#[test]
fn rules_that_are_objects_are_confined_unless_they_may_name_anything_or_are_none() {
    let load = |text: &str| {
        let files = Files::new();
        Settings::load(Some(&files.put("canaryd.yaml", text)), env(&[]), flags(&[])).unwrap_or_else(|report| panic!("{report}"))
    };
    assert_eq!(load("").cluster.resources, Some(Reach::Confined));
    for (word, reach) in
        [("true", Some(Reach::Confined)), ("confined", Some(Reach::Confined)), ("anywhere", Some(Reach::Anywhere)), ("false", None)]
    {
        assert_eq!(load(&format!("cluster: {{ resources: {word} }}\n")).cluster.resources, reach, "{word}");
    }
    let wrong = report("cluster: { resources: everywhere }\n");
    assert!(wrong.contains("cluster.resources") && wrong.contains("known: true, false, confined, anywhere"), "{wrong}");
    let objects = ["", "cluster: { resources: anywhere }\n"].map(|text| load(text).known([]).objects);
    assert_eq!(objects, [Reach::Confined, Reach::Anywhere]);
}
