//! `traffic`: a word, or one router and its object.

use super::super::traffic::{BARE, MOVED};
use super::super::{keys, kubernetes};
use super::{duration, list, mapping, name, one_of, says, text, two, url};
use serde_json::{Map, Value, json};

pub(super) fn traffic() -> Value {
    let moved = |router: &str| match router {
        "envoy" => says("Envoy: a route file it watches, or runtime keys.", envoy()),
        "haproxy" => says("HAProxy: weights of two servers of one backend, through its runtime socket.", haproxy()),
        "webhook" => says("An endpoint of your own that takes weights.", webhook()),
        _ => Value::Null,
    };
    let mut routers: Map<String, Value> = MOVED.iter().map(|router| ((*router).to_owned(), moved(router))).collect();
    for kind in kubernetes::KINDS {
        let what = format!("{}: weights kept in a Kubernetes object.", kind.word);
        routers.insert(kind.word.to_owned(), says(&what, other(kind.keys, &kind.keys[..1])));
    }
    for (router, known, needed) in keys::OTHER_ROUTERS {
        routers.insert(
            (*router).to_owned(),
            says(&format!("{router}: checked, and not moved by this build."), other(known, &known[..*needed])),
        );
    }
    let object = json!({ "type": "object", "properties": routers, "additionalProperties": false, "minProperties": 1, "maxProperties": 1 });
    says("What moves the traffic.", one_of(vec![json!({ "enum": BARE }), object]))
}

fn envoy() -> Value {
    let mut envoy = mapping(keys::ENVOY, &["admin"], |key| match key {
        "admin" => says("Address of the admin interface, where a change is verified.", url()),
        "clusters" => {
            says("Names of both clusters in the order of the workloads; those of the workloads where it is left out.", two(text()))
        }
        "route-file" => says("A route configuration that Envoy watches (RDS by path).", route_file()),
        "runtime-keys" => says("Runtime keys of weighted clusters; a restart of Envoy forgets them.", runtime_keys()),
        _ => Value::Null,
    });
    envoy["oneOf"] = json!([{ "required": ["route-file"] }, { "required": ["runtime-keys"] }]);
    envoy
}

fn route_file() -> Value {
    mapping(keys::ROUTE_FILE, keys::ROUTE_FILE, |key| match key {
        "path" => says("The file, replaced by rename.", text()),
        "stat-prefix" => says("stat_prefix of the connection manager that reads it.", text()),
        "route" => says("Name of the route configuration in it.", text()),
        _ => Value::Null,
    })
}

fn runtime_keys() -> Value {
    mapping(keys::RUNTIME_KEYS, keys::RUNTIME_KEYS, |key| match key {
        "prefix" => says("runtime_key_prefix of the weighted clusters.", text()),
        _ => Value::Null,
    })
}

fn haproxy() -> Value {
    mapping(keys::HAPROXY, &["socket"], |key| match key {
        "socket" => {
            says("The runtime socket: a path, or host:port.", json!({ "type": "string", "pattern": "^\\s*(/|[^/@]+:[0-9]+\\s*$)" }))
        }
        "backend" => says("The backend of both; that of the workloads where it is left out.", text()),
        "servers" => says("Its two servers in the order of the workloads; those of the workloads where it is left out.", two(text())),
        _ => Value::Null,
    })
}

fn webhook() -> Value {
    mapping(keys::WEBHOOK, &["url"], |key| match key {
        "url" => says("Weights are POSTed here.", url()),
        "read-url" => says("GET answers the weight in force; the same address where it is left out.", url()),
        "token-file" => says("File with a bearer token, read at each call.", text()),
        "timeout" => says("Longest one call may take; 2s by default, at most 2500ms.", duration()),
        _ => Value::Null,
    })
}

/// Objects in a cluster, and of routers that this build only checks: texts, lists of them, or mappings to them.
fn other(known: &[&str], needed: &[&str]) -> Value {
    let plain = || vec![text(), list(text(), 0)];
    let nested = json!({ "type": "object", "additionalProperties": { "anyOf": plain() } });
    let any: Vec<Value> = plain().into_iter().chain([nested]).collect();
    mapping(known, needed, |key| match key {
        "namespace" => says("Namespace of the object; that of the workloads where it is left out.", name()),
        _ => says(&format!("The router's {}.", key.replace('-', " ")), json!({ "anyOf": any })),
    })
}
