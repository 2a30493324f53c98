//! `traffic: haproxy`: the runtime socket, one backend, two servers of it.

use super::super::{Out, keys, two};
use crate::config::walk::At;
use crate::model::rule::{HaproxyServers, Workloads};

/// Longest path of a UNIX socket that Linux takes, bytes.
const SOCKET_PATH_MAX: usize = 107;
const LETTERS: &str = "write letters, digits, - _ . and :, at most 128";

pub(super) fn haproxy(at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<HaproxyServers> {
    let inner = at.fields(keys::HAPROXY, &mut out.report)?;
    let example = "write the runtime socket, such as /run/haproxy/admin.sock or 127.0.0.1:9999";
    let socket = inner.need("socket", example, &mut out.report).and_then(|at| socket(&at, out));
    let backend = match inner.get("backend") {
        Some(at) => name(&at, out),
        None => backend_of(at, workloads, out),
    };
    let servers = match inner.get("servers") {
        Some(at) => servers(&at, out),
        None => servers_of(at, workloads, out),
    };
    Some(HaproxyServers { socket: socket?, backend: backend?, servers: servers? })
}

/// A path, or `host:port`.
fn socket(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if text.starts_with('/') && text.len() > SOCKET_PATH_MAX {
        let what = format!("{} bytes exceed {SOCKET_PATH_MAX}, the longest path of a socket", text.len());
        at.wrong(&mut out.report, what, "give HAProxy a socket in a shorter path");
        return None;
    }
    let port = |text: &str| text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|p| p > 0));
    if text.starts_with('/') || port(text) {
        return Some(text.to_owned());
    }
    at.wrong(&mut out.report, format_args!("{text:?} is no socket"), "write a path that begins with /, or host:port");
    None
}

/// A name or address; one of IPv6 in brackets.
fn is_host(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bracketed.map_or_else(|| !host.is_empty() && host.bytes().all(plain), |h| h.parse::<std::net::Ipv6Addr>().is_ok())
}

fn name(at: &At<'_>, out: &mut Out<'_>) -> Option<String> {
    let text = at.text(&mut out.report)?;
    if HaproxyServers::is_name(text) {
        return Some(text.to_owned());
    }
    let way_out = match text.split_once('/') {
        Some((backend, server)) if [backend, server].into_iter().all(HaproxyServers::is_name) => {
            format!("write the name alone, and backend: {backend} beside it")
        }
        _ => LETTERS.to_owned(),
    };
    at.wrong(&mut out.report, format_args!("{text:?} is no name of HAProxy's"), way_out);
    None
}

fn servers(at: &At<'_>, out: &mut Out<'_>) -> Option<[String; 2]> {
    two(at, "servers", out)?;
    let names: Vec<Option<String>> = at.items(&mut out.report).iter().map(|item| name(item, out)).collect();
    let names: Option<Vec<String>> = names.into_iter().collect();
    names?.try_into().ok()
}

/// Without `backend` both workloads name it.
fn backend_of(at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<String> {
    match named(workloads?, "backend") {
        Some([first, second]) if first == second => checked(at, "backend", [first, second], out).map(|[name, _]| name),
        Some([first, second]) => {
            let what = format!("{first:?} and {second:?} are two backends, and HAProxy's socket moves traffic between servers of one");
            at.wrong(&mut out.report, what, "name with backend: one whose two servers lead to these backends, and with servers: those two");
            None
        }
        None => {
            at.wrong(&mut out.report, "names no backend", "write backend: ..., or give each workload the same backend");
            None
        }
    }
}

/// Without `servers` the workloads name them.
fn servers_of(at: &At<'_>, workloads: Option<&Workloads>, out: &mut Out<'_>) -> Option<[String; 2]> {
    match named(workloads?, "server") {
        Some([first, second]) if first != second => checked(at, "server", [first, second], out),
        Some([first, _]) => {
            let way_out = "write servers: [ ..., ... ] in the order of the workloads";
            at.wrong(&mut out.report, format_args!("both workloads name the server {first:?}"), way_out);
            None
        }
        None => {
            at.wrong(&mut out.report, "names no servers", "write servers: [ ..., ... ], or give each workload a server");
            None
        }
    }
}

fn named(workloads: &Workloads, field: &str) -> Option<[String; 2]> {
    let [first, second] = &workloads.sides;
    Some([first.fields.get(field)?.clone(), second.fields.get(field)?.clone()])
}

/// The names that stand at the workloads go into commands too.
fn checked(at: &At<'_>, field: &str, names: [String; 2], out: &mut Out<'_>) -> Option<[String; 2]> {
    if let Some(name) = names.iter().find(|name| !HaproxyServers::is_name(name)) {
        at.wrong(&mut out.report, format_args!("a workload's {field} {name:?} is no name of HAProxy's"), LETTERS);
        return None;
    }
    Some(names)
}
