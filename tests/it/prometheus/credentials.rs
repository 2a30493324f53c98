//! Who we are to a real server and whom we take it for: users, certificates of both sides, all from files that change.

use super::{envoy, tick};
use crate::rig::prometheus::{Prometheus as Server, Settings, Version};
use canaryd::model::{Blind, Timestamp};
use canaryd::source::{Auth, Prometheus, PrometheusSettings, Source, Tls};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Passwords and what bcrypt makes of them (OpenWall's test vectors).
const FIRST: (&str, &str) = ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
const SECOND: (&str, &str) = ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK");

/// An authority that signs.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("certificate")
}

/// Everything is PEM in one folder, overwritten as whoever rotates secrets would.
struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).expect("file");
        self.path(name)
    }

    /// A certificate `NAME.pem` for this host with its key `NAME.key`.
    fn certificate(&self, name: &str, host: &str, by: &Authority, last_year: i32) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, by).expect("certificate");
        self.put(&format!("{name}.pem"), &certificate.pem());
        self.put(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Web settings of a server: its certificate, whose clients it takes, its users.
    fn web(&self, client_ca: Option<&Path>, password: Option<&str>) -> Value {
        let mut tls = json!({ "cert_file": self.path("server.pem"), "key_file": self.path("server.key") });
        if let Some(ca) = client_ca {
            tls["client_auth_type"] = "RequireAndVerifyClientCert".into();
            tls["client_ca_file"] = json!(ca);
        }
        match password {
            Some(hash) => json!({ "tls_server_config": tls, "basic_auth_users": { "canaryd": hash } }),
            None => json!({ "tls_server_config": tls }),
        }
    }
}

fn guarded(folder: &Path, version: Version, web: Value) -> Option<Server> {
    Server::start_with(folder, Settings { version, web: Some(web), prefix: "/prom".to_owned(), ..Settings::default() })
}

fn settings(server: &Server, tls: Tls) -> PrometheusSettings {
    PrometheusSettings { tls, ..PrometheusSettings::new("prom", format!("https://127.0.0.1:{}/prom", server.port)) }
}

/// What one tick sees: the empty server's answer is "no series", everything else did not get that far.
async fn looked(source: &mut Prometheus, at: Timestamp) -> (Option<Blind>, String) {
    let sample = source.tick(at).await.remove(0);
    (sample.missing.canary, sample.detail)
}

fn subscribed(settings: PrometheusSettings) -> Prometheus {
    let mut source = Prometheus::new(settings).expect("settings");
    source.subscribe(envoy(1, "t", "v1", "v2"), vec![5.0]);
    source
}

async fn once(settings: PrometheusSettings) -> (Option<Blind>, String) {
    looked(&mut subscribed(settings), tick(0)).await
}

const ANSWERED: Option<Blind> = Some(Blind::NoSeries);
const DOWN: Option<Blind> = Some(Blind::SourceDown);

fn on_both(test: impl AsyncFn(Version, Files)) {
    for version in Version::BOTH {
        super::runtime().block_on(test(version, Files(tempfile::tempdir().expect("folder"))));
    }
}

#[test]
fn a_servers_certificate_is_checked_and_its_fault_is_named() {
    on_both(async |version, files| {
        let (ours, others) = (authority("ours"), authority("others"));
        let ca = files.put("ca.pem", &ours.pem());
        files.certificate("server", "127.0.0.1", &ours, 2100);
        let Some(mut server) = guarded(&files.path("data"), version, files.web(None, None)) else { return };
        let tls = || Tls { ca_file: Some(ca.clone()), identity: None };
        assert_eq!(once(settings(&server, tls())).await.0, ANSWERED);
        let strangers = once(settings(&server, Tls::default())).await;
        assert!(strangers.0 == DOWN && strangers.1.contains("the authorities of this machine (set ca_file)"), "{strangers:?}");

        let cases = [
            ("127.0.0.1", &ours, 2021, "it has expired"),
            ("127.0.0.1", &others, 2100, "signed by an authority not in"),
            ("example.com", &ours, 2100, "it is for another name"),
        ];
        for (host, by, last_year, words) in cases {
            files.certificate("server", host, by, last_year);
            server.restart();
            let (why, said) = once(settings(&server, tls())).await;
            let named = format!("the server's certificate is not accepted by ca_file {}: ", ca.display());
            assert!(why == DOWN && said.contains(&named) && said.contains(words), "{words}: {said}");
        }

        // the authority is exchanged: the running source goes on as soon as its file is
        files.certificate("server", "127.0.0.1", &others, 2100);
        server.restart();
        let mut source = subscribed(settings(&server, tls()));
        assert_eq!(looked(&mut source, tick(0)).await.0, DOWN);
        files.put("ca.pem", "half a file");
        assert_eq!(looked(&mut source, tick(1)).await.0, DOWN, "what cannot be read is not used");
        files.put("ca.pem", &others.pem());
        assert_eq!(looked(&mut source, tick(2)).await.0, ANSWERED);
    });
}

#[test]
fn our_own_certificate_is_sent_and_renewed() {
    on_both(async |version, files| {
        let (ours, others) = (authority("ours"), authority("others"));
        let ca = files.put("ca.pem", &ours.pem());
        files.certificate("server", "127.0.0.1", &ours, 2100);
        let Some(server) = guarded(&files.path("data"), version, files.web(Some(&ca), None)) else { return };
        let with = |name: &str| {
            let identity = (files.path(&format!("{name}.pem")), files.path(&format!("{name}.key")));
            settings(&server, Tls { ca_file: Some(ca.clone()), identity: Some(identity) })
        };
        let (why, said) = once(settings(&server, Tls { ca_file: Some(ca.clone()), identity: None })).await;
        assert!(why == DOWN && said.contains("set cert_file and key_file"), "{said}");

        for (by, last_year, word) in
            [(&ours, 2021, "which has expired on 2021-01-01"), (&others, 2100, "is its authority one the server trusts?")]
        {
            files.certificate("me", "canaryd", by, last_year);
            let (why, said) = once(with("me")).await;
            let named = format!("does not accept our certificate (cert_file {}", files.path("me.pem").display());
            assert!(why == DOWN && said.contains(&named) && said.contains(word), "{word}: {said}");
        }

        let mut source = subscribed(with("me"));
        assert_eq!(looked(&mut source, tick(0)).await.0, DOWN);
        files.certificate("me", "canaryd", &ours, 2100);
        assert_eq!(looked(&mut source, tick(1)).await.0, ANSWERED, "a new certificate needs no restart");

        files.certificate("other", "canaryd", &ours, 2100);
        std::fs::copy(files.path("other.key"), files.path("me.key")).expect("copy");
        let unusable = Prometheus::new(with("me")).expect_err("a key of another certificate").to_string();
        assert!(unusable.contains("me.pem and key_file") && unusable.contains("me.key"), "{unusable}");
    });
}

#[test]
fn a_password_is_read_again_when_it_changes_and_never_shown() {
    on_both(async |version, files| {
        let ours = authority("ours");
        let ca = files.put("ca.pem", &ours.pem());
        files.certificate("server", "127.0.0.1", &ours, 2100);
        let Some(server) = guarded(&files.path("data"), version, files.web(None, Some(FIRST.1))) else { return };
        let tls = Tls { ca_file: Some(ca.clone()), identity: None };
        let (why, said) = once(settings(&server, tls.clone())).await;
        assert!(why == DOWN && said.contains("HTTP 401") && said.contains("no credentials are sent"), "{said}");

        let password_file = files.put("password", &format!("{}\n", FIRST.0));
        let auth = Auth::Basic { user: "canaryd".to_owned(), password_file: password_file.clone() };
        let mut source = subscribed(PrometheusSettings { auth, ..settings(&server, tls) });
        assert_eq!(looked(&mut source, tick(0)).await.0, ANSWERED);

        // the server has another password now (it reads its users at each request), then so has the file
        std::fs::write(files.path("data").join("web.yml"), files.web(None, Some(SECOND.1)).to_string()).expect("web settings");
        let (why, said) = looked(&mut source, tick(1)).await;
        let named = format!("user \"canaryd\" with the password in {} is not taken", password_file.display());
        assert!(why == DOWN && said.contains(&named) && !said.contains(FIRST.0), "{said}");
        files.put("password", SECOND.0);
        assert_eq!(looked(&mut source, tick(2)).await.0, ANSWERED);

        std::fs::remove_file(&password_file).expect("removed");
        assert_eq!(looked(&mut source, tick(3)).await.0, ANSWERED, "a file that is being exchanged does not blind");
    });
}
