//! The HAProxy router against a real HAProxy, with real traffic counted.

use crate::rig::haproxy::{self, Haproxy};
use crate::rig::http::{Client, Request};
use crate::rig::ports;
use crate::rig::router::Waited;
use crate::rig::service::Service;
use canaryd::model::rule::{HaproxyServers, Traffic};
use canaryd::model::{Retry, Side, TrafficReading, Weight};
use canaryd::router::{self, Desired, Means, RouterError};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Of a request.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A running HAProxy between its users and two versions of a service.
struct Rig {
    haproxy: Haproxy,
    services: [Service; 2],
    folder: TempDir,
}

impl Rig {
    /// `None` if there is no HAProxy here.
    fn start() -> Option<Self> {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut haproxy::Settings)) -> Option<Self> {
        let services = haproxy::SERVERS.map(Service::start);
        let folder = tempfile::tempdir().unwrap();
        let mut settings = haproxy::Settings::new(services[0].port, services[1].port);
        change(&mut settings);
        Some(Self { haproxy: Haproxy::start(folder.path(), &settings)?, services, folder })
    }

    /// By the UNIX socket.
    fn router(&self) -> Waited {
        router_of(&self.haproxy.socket("admin").display().to_string(), haproxy::SERVERS)
    }

    /// How many of `requests` the second version answers; all must be answered 200.
    fn second_of(&self, requests: u32) -> u32 {
        let mut client = Client::new(self.haproxy.listener);
        let mut second = 0;
        for _ in 0..requests {
            let answer = client.send(&Request { path: "/", ..Request::default() }, ANSWER_MAX).unwrap();
            assert_eq!(answer.status, 200);
            second += u32::from(answer.header("x-version") == Some("v2"));
        }
        second
    }

    /// The second version's share of real traffic is `weight`, within 5 sigma.
    fn assert_second_gets(&self, weight: Weight) {
        const REQUESTS: u32 = 600;
        let second = f64::from(self.second_of(REQUESTS));
        let expected = weight.share() * f64::from(REQUESTS);
        let sigma = (expected * (1.0 - weight.share())).sqrt();
        assert!((second - expected).abs() <= 5.0 * sigma, "{weight}: {second} of {REQUESTS}");
    }
}

fn router_of(socket: &str, servers: [&str; 2]) -> Waited {
    of_backend(socket, haproxy::BACKEND, servers)
}

fn of_backend(socket: &str, backend: &str, servers: [&str; 2]) -> Waited {
    let servers = HaproxyServers { socket: socket.to_owned(), backend: backend.to_owned(), servers: servers.map(str::to_owned) };
    Waited::new(router::open(&Traffic::Haproxy(servers), &Means::default()).unwrap())
}

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).unwrap()
}

fn wish(permille: u16, generation: u64) -> Desired {
    Desired { canary: Side::Second, weight: weight(permille), generation }
}

fn ours(permille: u16, generation: u64) -> TrafficReading {
    TrafficReading::new(weight(permille), Some(generation), None)
}

#[test]
fn every_weight_written_is_the_share_of_real_traffic() {
    let Some(rig) = Rig::start() else { return };
    let router = rig.router();
    let first = router.read(Side::Second).unwrap();
    assert_eq!((first.weight, first.generation), (Weight::ZERO, None));
    assert_eq!(first.writer.as_deref(), Some("HAProxy's own file, read at its start or reload (weights 100 and 0),"));
    for (generation, permille) in (1..).zip([0, 5, 50, 125, 500, 995, 1000, 300, 0]) {
        router.write(wish(permille, generation)).unwrap();
        assert_eq!(router.read(Side::Second).unwrap(), ours(permille, generation));
        let whole = u64::from(permille / 5);
        assert_eq!(rig.haproxy.weights(), [200 - whole, whole], "the sum stays");
        rig.assert_second_gets(weight(permille));
    }
}

#[test]
fn random_balancing_follows_the_weight_too_and_the_canary_may_be_first_over_tcp() {
    let Some(rig) = Rig::with(|s| s.balance = "random") else { return };
    let router = router_of(&format!("127.0.0.1:{}", rig.haproxy.admin), haproxy::SERVERS);
    assert_eq!(router.read(Side::First).unwrap().weight, Weight::FULL);
    router.write(Desired { canary: Side::First, weight: weight(200), generation: 1 }).unwrap();
    assert_eq!(router.read(Side::First).unwrap(), ours(200, 1));
    assert_eq!(rig.haproxy.weights(), [40, 160]);
    rig.assert_second_gets(weight(800));
}

/// The two commands are two steps: in between somebody must always serve.
#[test]
fn no_request_fails_while_all_of_the_traffic_goes_to_and_fro() {
    let Some(rig) = Rig::start() else { return };
    let router = rig.router();
    let port = rig.haproxy.listener;
    let users = thread::spawn(move || {
        let mut client = Client::new(port);
        let mut statuses: Vec<u16> =
            (0..3000).map(|_| client.send(&Request { path: "/", ..Request::default() }, ANSWER_MAX).unwrap().status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    });
    let mut generation = 0;
    while !users.is_finished() {
        generation += 1;
        router.write(wish(if generation % 2 == 1 { 1000 } else { 0 }, generation)).unwrap();
    }
    assert!(generation > 10, "only {generation} changes");
    assert_eq!(users.join().unwrap(), [200]);
    let served = rig.services.each_ref().map(|s| s.served().good);
    assert!(served[0] > 0 && served[1] > 0, "{served:?}");
}

#[test]
fn another_hand_is_seen_and_a_stale_writer_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let router = rig.router();
    router.write(wish(100, 8)).unwrap();
    rig.haproxy.shift([75, 25]);
    let seen = router.read(Side::Second).unwrap();
    let theirs = TrafficReading::new(weight(250), None, Some("another hand (weights 75 and 25)".to_owned()));
    assert_eq!(seen, theirs);
    // the same share by other numbers is another hand's, and the same share
    rig.haproxy.shift([90, 10]);
    assert_eq!(router.read(Side::Second).unwrap().writer.as_deref(), Some("another hand (weights 90 and 10)"));
    let error = router.write(wish(900, 7)).unwrap_err();
    let stale = matches!(&error, RouterError::Refused { why, .. } if why.contains("generation 8 is there, newer than this write's 7"));
    assert!(stale, "{error}");
    assert_eq!(rig.haproxy.weights(), [90, 10]);
    router.write(wish(100, 8)).unwrap();
    assert_eq!(router.read(Side::Second).unwrap(), ours(100, 8));
    // a daemon that was restarted knows its own sum again, and no generation
    let again = rig.router().read(Side::Second).unwrap();
    assert_eq!(again, TrafficReading::new(weight(100), None, None));
}

#[test]
fn a_restart_forgets_the_weights_and_a_reading_says_so() {
    let Some(mut rig) = Rig::with(|s| s.weights = [100, 100]) else { return };
    let router = rig.router();
    router.write(wish(100, 1)).unwrap();
    rig.haproxy.process().kill();
    let error = router.read(Side::Second).unwrap_err();
    assert!(error.to_string().ends_with("admin.sock: nobody listens there: HAProxy has ended"), "{error}");
    assert!(matches!(error.retry(), Retry::After(_)));
    rig.haproxy.restart();
    let seen = router.read(Side::Second).unwrap();
    assert_eq!((seen.weight, seen.generation), (weight(500), None));
    assert_eq!(seen.writer.as_deref(), Some("HAProxy's own file, read at its start or reload (weights 100 and 100),"));
    router.write(wish(100, 1)).unwrap();
    assert_eq!(router.read(Side::Second).unwrap(), ours(100, 1));
    rig.assert_second_gets(weight(100));
}

#[test]
fn a_server_taken_out_is_a_moved_weight_and_more_for_it_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let router = rig.router();
    router.write(wish(200, 1)).unwrap();
    for (state, said) in [("maint", "in maintenance"), ("drain", "in drain")] {
        rig.haproxy.ask(&format!("set server shop/v2 state {state}"));
        let seen = router.read(Side::Second).unwrap();
        assert_eq!((seen.weight, seen.generation), (Weight::ZERO, None), "{state}");
        let writer = format!("another hand (server v1 with weight 160 and server v2 with weight 40, {said})");
        assert_eq!(seen.writer, Some(writer));
        let error = router.write(wish(500, 2)).unwrap_err();
        let why =
            format!("server v2 with weight 40, {said}: it gets no requests until somebody says set server ... state ready; nothing was");
        assert!(matches!(&error, RouterError::NotVerified { .. }) && error.to_string().contains(&why), "{error}");
        assert_eq!(rig.haproxy.weights(), [160, 40], "nothing was written");
        rig.assert_second_gets(Weight::ZERO);
    }
    // the canary is taken off whatever its server does
    router.write(wish(0, 3)).unwrap();
    assert_eq!(router.read(Side::Second).unwrap().weight, Weight::ZERO);
    // and off even if nobody is left to serve, which is told
    rig.haproxy.ask("set server shop/v2 state ready; set server shop/v1 state maint");
    rig.haproxy.shift([0, 200]);
    assert_eq!(router.read(Side::Second).unwrap().weight, Weight::FULL);
    let error = router.write(wish(0, 4)).unwrap_err();
    let told =
        "server v1 with weight 200, in maintenance: it gets no requests until somebody says set server ... state ready: the weights were";
    assert!(matches!(&error, RouterError::NotVerified { why, .. } if why.starts_with(told)), "{error}");
    assert_eq!(rig.haproxy.weights(), [200, 0]);
    let error = router.read(Side::Second).unwrap_err();
    assert!(matches!(&error, RouterError::Object { why, .. } if why.contains("HAProxy answers 503 to everybody")), "{error}");
}

#[test]
fn a_server_that_is_down_keeps_its_weight_and_gets_no_more() {
    let Some(mut rig) = Rig::with(|s| s.options = "check inter 100ms rise 1 fall 2") else { return };
    let router = rig.router();
    rig.haproxy.wait_status("v2", "UP");
    router.write(wish(200, 1)).unwrap();
    rig.services[1].die();
    rig.haproxy.wait_status("v2", "DOWN");
    assert_eq!(router.read(Side::Second).unwrap(), ours(200, 1), "nobody moved it");
    let error = router.write(wish(500, 2)).unwrap_err();
    let why = "server v2 is down by its health check and gets no requests whatever its weight; nothing was written";
    assert!(matches!(&error, RouterError::NotVerified { why: w, .. } if w == why), "{error}");
    assert!(matches!(error.retry(), Retry::After(_)), "it may come back");
    rig.services[1].revive();
    rig.haproxy.wait_status("v2", "UP");
    router.write(wish(500, 2)).unwrap();
    rig.assert_second_gets(weight(500));
    router.write(wish(0, 3)).unwrap();
}

#[test]
fn what_haproxy_refuses_is_said_in_its_own_words() {
    let Some(rig) = Rig::start() else { return };
    let socket = rig.haproxy.socket("admin").display().to_string();
    let wrong = [
        (of_backend(&socket, "shop", ["v1", "v9"]), "backend shop: has no server v9"),
        (of_backend(&socket, "nope", ["v1", "v2"]), "backend nope: there is no such backend"),
    ];
    for (router, words) in wrong {
        for error in [router.read(Side::Second).unwrap_err(), router.write(wish(100, 1)).unwrap_err()] {
            assert!(matches!(&error, RouterError::Object { .. }) && error.to_string().ends_with(words), "{error}");
        }
    }
    let low = router_of(&rig.haproxy.socket("operator").display().to_string(), haproxy::SERVERS);
    assert_eq!(low.read(Side::Second).unwrap().weight, Weight::ZERO);
    let error = low.write(wish(100, 1)).unwrap_err();
    let words = "refused the change: Permission denied; Permission denied: the socket needs `level admin` (stats socket ... level admin)";
    assert!(error.to_string().ends_with(words), "{error}");
    assert_eq!((error.retry(), error.reason()), (Retry::OnChange, "refused"));

    let router = rig.router();
    let error = router.write(wish(333, 1)).unwrap_err();
    assert!(error.to_string().ends_with("33.3% is no multiple of 0.5%, the finest share its weights can say"), "{error}");
    assert_eq!(rig.haproxy.weights(), [100, 0], "nothing of all this moved a weight");
    rig.assert_second_gets(Weight::ZERO);
}

#[test]
fn a_name_that_is_a_command_never_reaches_the_socket() {
    for servers in [["v1", "v2 weight 1"], ["v1;quit", "v2"], ["", "v2"], ["v1\n", "v2"]] {
        let servers = HaproxyServers { socket: "/s".to_owned(), backend: "shop".to_owned(), servers: servers.map(str::to_owned) };
        let error = router::open(&Traffic::Haproxy(servers), &Means::default()).unwrap_err();
        assert!(error.to_string().contains("is no name of HAProxy's"), "{error}");
    }
}

#[test]
fn a_backend_in_which_weights_are_not_the_share_is_told() {
    let cases: [(&'static str, &str, &str); 3] = [
        ("first", "", "balance first takes no notice of weights: use roundrobin, random or leastconn"),
        ("roundrobin", "  server v3 127.0.0.1:1 weight 10\n", "server v3 with weight 10 shares the traffic: set its weight to 0"),
        ("source", "", ""),
    ];
    for (balance, more, words) in cases {
        let Some(rig) = Rig::with(|s| (s.balance, s.more, s.weights) = (balance, more.to_owned(), [100, 100])) else { return };
        let router = rig.router();
        if words.is_empty() {
            let error = router.write(wish(600, 1)).unwrap_err();
            let told = "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.";
            assert!(matches!(&error, RouterError::Refused { why, .. } if why.contains(told) && why.contains("use balance")), "{error}");
            assert_eq!(rig.haproxy.weights(), [100, 100]);
            continue;
        }
        for error in [router.read(Side::Second).unwrap_err(), router.write(wish(600, 1)).unwrap_err()] {
            assert!(matches!(&error, RouterError::Object { why, .. } if why.starts_with(words)), "{balance}: {error}");
        }
        assert_eq!(rig.haproxy.weights(), [100, 100], "{balance}");
        // the canary is taken off all the same
        let error = router.write(wish(0, 2)).unwrap_err();
        assert!(matches!(&error, RouterError::Object { why, .. } if why.starts_with(words)), "{balance}: {error}");
        assert_eq!(rig.haproxy.weights(), [200, 0], "{balance}");
    }
    // a server that only stands in when all others are down takes nothing
    let Some(rig) = Rig::with(|s| s.more = "  server sorry 127.0.0.1:1 backup\n".to_owned()) else { return };
    rig.router().write(wish(100, 1)).unwrap();
    let error = router_of(&rig.haproxy.socket("admin").display().to_string(), ["v1", "sorry"]).read(Side::Second).unwrap_err();
    assert!(error.to_string().contains("server sorry is a backup"), "{error}");
}

#[test]
fn a_socket_that_is_gone_hangs_or_is_no_socket_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.sock");
    let error = fails(&gone.display().to_string());
    assert!(error.to_string().contains("there is no such socket: is HAProxy running"), "{error}");
    let error = fails(&format!("127.0.0.1:{}", ports::free()));
    assert!(error.to_string().ends_with("nobody listens there: HAProxy has ended"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    fails(&file.display().to_string());
    let error = fails("nowhere.invalid:9999");
    assert!(error.to_string().starts_with("HAProxy nowhere.invalid:9999: "), "{error}");
}

fn fails(socket: &str) -> RouterError {
    let router = router_of(socket, haproxy::SERVERS);
    let error = router.write(wish(0, 1)).unwrap_err();
    assert!(matches!(error, RouterError::Unreachable { .. }), "{error}");
    assert!(matches!(error.retry(), Retry::After(_)), "{error}");
    assert!(matches!(router.read(Side::Second), Err(RouterError::Unreachable { .. })));
    error
}

/// What a real HAProxy cannot be made to answer.
#[test]
fn an_answer_that_is_none_is_told() {
    const HALF: &str = "1\n# be_id be_name srv_id srv_name";
    let flood = "x".repeat(2 << 20);
    for (says, closes, words) in [
        (HALF, true, "the connection ended within the answer, after 33 bytes"),
        ("", true, "the connection ended within the answer, after 0 bytes"),
        (HALF, false, "no answer within 3 s"),
        (flood.as_str(), true, "answers more than 1048576 bytes"),
        ("HTTP/1.1 400 Bad request\r\n\r\nno HAProxy\n\n", true, "HTTP/1.1 400 Bad request; no HAProxy"),
        ("1\n# srv_name\nv1\n\n\n", true, "the answer holds no statistics"),
    ] {
        let port = double(says.to_owned(), closes);
        let error = router_of(&format!("127.0.0.1:{port}"), haproxy::SERVERS).read(Side::Second).unwrap_err();
        assert!(error.to_string().ends_with(words), "{error}");
    }
}

/// Every command is answered as if it were obeyed, and the weights stay: as when another hand writes at the same moment.
#[test]
fn weights_that_do_not_read_back_are_told_with_all_four() {
    let row = |name: &str, weight: u32| format!("3 shop {name} 2 0 {weight} 100\n");
    let table = format!(
        "1\n# be_id be_name srv_name srv_op_state srv_admin_state srv_uweight srv_iweight\n{}{}\n# pxname,svname,bck,algo\nshop,v1,0,\n\
         shop,v2,0,\nshop,BACKEND,0,roundrobin\n\n",
        row("v1", 100),
        row("v2", 0),
    );
    let router = router_of(&format!("127.0.0.1:{}", double(table, true)), haproxy::SERVERS);
    assert_eq!(router.read(Side::Second).unwrap().weight, Weight::ZERO);
    let error = router.write(wish(100, 1)).unwrap_err();
    let words = "backend shop does not show the weight: weights 100 and 0 stand there and not 180 and 20: another hand writes too";
    assert!(matches!(error, RouterError::NotVerified { .. }) && error.to_string().ends_with(words), "{error}");
}

/// Answers every line so; or goes on listening, until the other end gives up.
fn double(says: String, closes: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = [0; 1024];
            let _ = stream.read(&mut line);
            let _ = stream.write_all(says.as_bytes());
            if !closes {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    port
}

/// Roots may read any socket: only the words are looked at where the tests run as one.
#[test]
fn a_socket_of_others_is_said() {
    let Some(rig) = Rig::start() else { return };
    let socket = rig.haproxy.socket("admin");
    if !forbid(&socket) {
        return;
    }
    let error = rig.router().read(Side::Second).unwrap_err();
    assert!(
        matches!(&error, RouterError::Object { why, .. } if why.contains("permission denied: run canaryd in the socket's group")),
        "{error}"
    );
    drop(rig.folder);
}

/// Takes every right; false if that keeps this user out of nothing.
fn forbid(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0)).unwrap();
    std::os::unix::net::UnixStream::connect(path).is_err()
}
