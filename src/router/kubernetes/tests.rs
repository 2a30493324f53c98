//! What each kind reads from an object and would write into it, applied by a small JSON Patch.

use super::layout::{Layout, Taken};
use super::{aws_alb, claim, gateway_api, istio, nginx_ingress, service, traefik};
use crate::apiserver::owner_of;
use crate::model::Weight;
use crate::model::rule::IstioDestination;
use serde_json::{Value, json};

fn weight(permille: u16) -> Weight {
    Weight::from_permille(permille).unwrap()
}

fn both(a: &str, b: &str) -> [String; 2] {
    [a.to_owned(), b.to_owned()]
}

/// `test`, `add` and `replace` of object members, all or none.
fn patched(object: &Value, operations: &[Value]) -> Result<Value, String> {
    let mut object = object.clone();
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        if operation["op"] == "test" {
            if object.pointer(path) != Some(&operation["value"]) {
                return Err(format!("test of {path} fails"));
            }
            continue;
        }
        let (parent, key) = path.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).and_then(Value::as_object_mut).ok_or_else(|| format!("no {parent}"))?;
        let key = key.replace("~1", "/").replace("~0", "~");
        assert!(operation["op"] == "add" || parent.contains_key(&key), "replace of what is not there: {path}");
        parent.insert(key, operation["value"].clone());
    }
    Ok(object)
}

fn moved(layout: &dyn Layout, object: &Value, permille: u16) -> Value {
    let moved = patched(object, &layout.patch(object, weight(permille)).unwrap()).unwrap();
    assert_eq!(layout.share(&moved), Ok(weight(permille)));
    moved
}

fn subsets() -> istio::VirtualService {
    let subset = |name: &str| IstioDestination { host: None, subset: Some(name.to_owned()) };
    istio::VirtualService { route: None, destinations: [subset("v1"), subset("v2")], namespace: "prod".to_owned() }
}

fn to(subset: &str, weight: u64) -> Value {
    json!({"destination": {"host": "shop", "subset": subset, "port": {"number": 80}}, "weight": weight, "headers": {"request": {}}})
}

fn virtual_service(http: Value) -> Value {
    json!({"metadata": {"resourceVersion": "7"}, "spec": {"hosts": ["shop"], "http": http, "unknown": {"kept": true}}})
}

#[test]
fn istio_changes_the_two_numbers_and_nothing_else() {
    let object = virtual_service(json!([
        {"name": "testers", "match": [{"headers": {"x-test": {"exact": "1"}}}], "route": [to("v1", 0), to("v2", 100)]},
        {"name": "primary", "route": [to("v1", 100), to("v2", 0)], "mirror": {"host": "shop", "subset": "v2"}, "timeout": "5s"},
    ]));
    let layout = subsets();
    assert_eq!(layout.share(&object), Ok(Weight::ZERO), "the entry for testers is not looked at unasked");
    let mut expected = object.clone();
    expected["spec"]["http"][1]["route"][0]["weight"] = 95.into();
    expected["spec"]["http"][1]["route"][1]["weight"] = 5.into();
    assert_eq!(moved(&layout, &object, 50), expected);
    let named = istio::VirtualService { route: Some("testers".to_owned()), ..subsets() };
    assert_eq!(named.share(&object), Ok(Weight::FULL));
    assert_eq!(moved(&named, &object, 900)["spec"]["http"][0]["route"][1]["weight"], 90);
}

#[test]
fn istio_keeps_a_usual_total_and_takes_a_finer_one_only_where_it_must() {
    let weights = |object: &Value| [0, 1].map(|i| object["spec"]["http"][0]["route"][i]["weight"].as_u64().unwrap());
    let of = |a: u64, b: u64| virtual_service(json!([{"route": [to("v2", b), to("v1", a)]}]));
    let layout = subsets();
    for (found, permille, written) in [
        ((100, 0), 50, [5, 95]),
        ((1000, 0), 50, [50, 950]),
        ((1, 2), 250, [25, 75]),
        ((100, 0), 125, [125, 875]),
        ((0, 100), 0, [0, 100]),
        ((0, 0), 1000, [100, 0]),
    ] {
        let object = of(found.0, found.1);
        assert_eq!(weights(&moved(&layout, &object, permille)), written, "{found:?} to {permille}: the second is written first here");
    }
    assert!(layout.share(&of(0, 0)).unwrap_err().contains("both weights"));
}

#[test]
fn istio_refuses_what_is_ambiguous_or_not_there_and_names_the_candidates() {
    let layout = subsets();
    let split = || json!([to("v1", 50), to("v2", 50)]);
    let two = virtual_service(json!([{"name": "a", "route": split()}, {"route": split()}]));
    let error = layout.share(&two).unwrap_err();
    assert!(error.contains("ambiguous") && error.contains("\"a\" sends to") && error.contains("#1 sends to"), "{error}");
    let three = virtual_service(json!([{"name": "a", "route": [to("v1", 1), to("v2", 1), to("v3", 1)]}]));
    let error = layout.share(&three).unwrap_err();
    assert!(error.contains("exactly subset v1 and subset v2") && error.contains("shop subset v3"), "{error}");
    let named = istio::VirtualService { route: Some("a".to_owned()), ..subsets() };
    assert!(named.share(&three).unwrap_err().contains("does not send to exactly"));
    let typo = istio::VirtualService { route: Some("b".to_owned()), ..subsets() };
    assert!(typo.share(&two).unwrap_err().contains("no entry named \"b\"; it has: \"a\""));
    let odd = virtual_service(json!([{"route": [to("v1", 50), {"destination": {"host": "shop", "subset": "v2"}, "weight": -3}]}]));
    assert!(layout.share(&odd).unwrap_err().contains("-3"));
    assert!(layout.share(&json!({})).unwrap_err().contains("it has: none"));
}

#[test]
fn istio_hosts_may_be_short_or_full() {
    let host = |name: &str| IstioDestination { host: Some(name.to_owned()), subset: None };
    let destinations = [host("shop-v1"), host("shop-v2.prod.svc.cluster.local")];
    let layout = istio::VirtualService { route: None, destinations, namespace: "prod".to_owned() };
    let of = |host: &str, weight: u64| json!({"destination": {"host": host}, "weight": weight});
    let object = virtual_service(json!([{"route": [of("shop-v1.prod.svc.cluster.local", 75), of("shop-v2", 25)]}]));
    assert_eq!(layout.share(&object), Ok(weight(250)));
    let elsewhere = virtual_service(json!([{"route": [of("shop-v1.test.svc.cluster.local", 75), of("shop-v2", 25)]}]));
    assert!(layout.share(&elsewhere).is_err());
}

#[test]
fn a_list_that_changed_meanwhile_is_not_written() {
    let layout = subsets();
    let read = virtual_service(json!([{"name": "primary", "route": [to("v1", 100), to("v2", 0)]}]));
    let operations = layout.patch(&read, weight(50)).unwrap();
    let mut third = read.clone();
    third["spec"]["http"][0]["route"].as_array_mut().unwrap().push(to("v3", 10));
    let mut shifted = read.clone();
    let first = read["spec"]["http"][0].clone();
    shifted["spec"]["http"] = json!([{"name": "new", "route": first["route"]}, first]);
    let mut renumbered = read.clone();
    renumbered["spec"]["http"][0]["route"][0]["weight"] = 70.into();
    for changed in [third, shifted, renumbered] {
        patched(&changed, &operations).unwrap_err();
    }
    assert!(patched(&read, &operations).is_ok());
}

#[test]
fn an_entry_in_whose_place_a_twin_came_is_not_written() {
    let split = || json!([to("v1", 100), to("v2", 0)]);
    let beta = json!([{"headers": {"x-beta": {"exact": "1"}}}]);
    let twin = json!({"match": beta, "route": split()});
    let plain = virtual_service(json!([{"match": [{"uri": {"prefix": "/"}}], "route": split()}]));
    let bare = virtual_service(json!([{"route": split()}]));
    for read in [plain, bare] {
        let operations = subsets().patch(&read, weight(50)).unwrap();
        assert!(patched(&read, &operations).is_ok());
        let mut shifted = read.clone();
        shifted["metadata"]["resourceVersion"] = "8".into();
        shifted["spec"]["http"].as_array_mut().unwrap().insert(0, twin.clone());
        patched(&shifted, &operations).unwrap_err();
    }
    // one of the same name, which is for others
    let primary = virtual_service(json!([{"name": "p", "match": [{"uri": {"prefix": "/"}}], "route": split()}]));
    let operations = subsets().patch(&primary, weight(50)).unwrap();
    let mut narrowed = primary.clone();
    narrowed["spec"]["http"][0]["match"] = beta.clone();
    patched(&narrowed, &operations).unwrap_err();
    let mut touched = primary.clone();
    touched["metadata"]["resourceVersion"] = "8".into();
    touched["spec"]["http"][0]["timeout"] = "5s".into();
    assert!(patched(&touched, &operations).is_ok(), "what others change beside a named entry's weights does not matter");
    let layout = gateway_api::GatewayRoute { rule: None, backends: both("a", "b") };
    let read = http_route(json!([]));
    let operations = layout.patch(&read, weight(250)).unwrap();
    let mut shifted = read.clone();
    shifted["metadata"]["resourceVersion"] = "10".into();
    let twin = json!({"matches": [{"headers": [{"name": "x"}]}], "backendRefs": read["spec"]["rules"][1]["backendRefs"]});
    shifted["spec"]["rules"].as_array_mut().unwrap().insert(1, twin);
    patched(&shifted, &operations).unwrap_err();
}

fn http_route(status: Value) -> Value {
    let backend = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight, "group": "", "kind": "Service"});
    json!({
        "metadata": {"generation": 4, "resourceVersion": "9", "namespace": "prod"},
        "spec": {"parentRefs": [{"name": "gw"}], "rules": [
            {"matches": [{"headers": [{"name": "x", "value": "y"}]}], "backendRefs": [backend("a", 0), backend("b", 1)]},
            {"backendRefs": [backend("a", 90), backend("b", 10)], "filters": [{"type": "RequestMirror"}]},
        ]},
        "status": {"parents": status},
    })
}

#[test]
fn a_gateway_route_is_moved_where_its_gateways_agree() {
    let layout = gateway_api::GatewayRoute { rule: None, backends: both("a", "b") };
    let condition = |kind: &str, status: &str, seen: u64| json!({"type": kind, "status": status, "observedGeneration": seen, "reason": "BackendNotFound", "message": "no b"});
    let parents = |conditions: Value| http_route(json!([{"parentRef": {"name": "gw"}, "conditions": conditions}]));
    let good = parents(json!([condition("Accepted", "True", 4), condition("ResolvedRefs", "True", 4)]));
    assert_eq!(layout.share(&good), Ok(weight(100)));
    assert_eq!(moved(&layout, &good, 250)["spec"]["rules"][1]["backendRefs"][1]["weight"], 25);
    assert_eq!((layout.sound(&good), layout.taken(&good)), (Ok(()), Taken::Yes));
    let behind = parents(json!([condition("Accepted", "True", 3), condition("ResolvedRefs", "True", 4)]));
    assert!(matches!(layout.taken(&behind), Taken::NotYet(why) if why.contains("gw") && why.contains('4')));
    let broken = parents(json!([condition("Accepted", "True", 4), condition("ResolvedRefs", "False", 4)]));
    assert!(matches!(layout.taken(&broken), Taken::No(why) if why.contains("BackendNotFound: no b")));
    assert!(layout.sound(&broken).unwrap_err().contains("ResolvedRefs: False"));
    assert!(layout.sound(&http_route(json!([]))).unwrap_err().contains("no gateway"));
}

#[test]
fn only_the_parents_a_route_asks_for_have_a_say() {
    let layout = gateway_api::GatewayRoute { rule: None, backends: both("a", "b") };
    let says = |parent: Value, status: &str, seen: Option<u64>| {
        let condition = |kind: &str| json!({"type": kind, "status": status, "reason": "R", "message": "m", "observedGeneration": seen});
        let mut conditions = [condition("Accepted"), condition("ResolvedRefs")];
        if seen.is_none() {
            conditions.iter_mut().for_each(|c| drop(c.as_object_mut().unwrap().remove("observedGeneration")));
        }
        json!({"parentRef": parent, "conditions": conditions})
    };
    let full = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "prod", "name": "gw", "sectionName": "https"});
    let ours = says(full, "True", Some(4));
    for gone in [json!({"name": "old"}), json!({"name": "gw", "namespace": "test"}), json!({"name": "gw", "kind": "Service", "group": ""})]
    {
        for status in ["True", "False"] {
            let route = http_route(json!([says(gone.clone(), status, Some(1)), ours]));
            assert_eq!((layout.sound(&route), layout.taken(&route)), (Ok(()), Taken::Yes), "{gone}");
        }
        let route = http_route(json!([says(gone, "True", Some(4))]));
        assert!(layout.sound(&route).unwrap_err().contains("no gateway has accepted"), "{route}");
    }
    let mut one_listener = http_route(json!([says(json!({"name": "gw", "sectionName": "http"}), "False", Some(1)), ours]));
    assert!(matches!(layout.taken(&one_listener), Taken::NotYet(_)), "a route that asks for the whole gateway hears each listener");
    one_listener["spec"]["parentRefs"][0]["sectionName"] = "https".into();
    assert_eq!((layout.sound(&one_listener), layout.taken(&one_listener)), (Ok(()), Taken::Yes));
    let silent = http_route(json!([says(json!({"name": "gw"}), "True", None)]));
    assert_eq!((layout.sound(&silent), layout.taken(&silent)), (Ok(()), Taken::Yes), "observedGeneration is optional");
    let silent = http_route(json!([says(json!({"name": "gw"}), "False", None)]));
    assert!(matches!(layout.taken(&silent), Taken::No(_)));
}

#[test]
fn a_backend_without_a_weight_has_one() {
    let layout = gateway_api::GatewayRoute { rule: None, backends: both("a", "b") };
    let object = json!({"metadata": {"resourceVersion": "1"}, "spec": {"rules": [{"backendRefs": [{"name": "a"}, {"name": "b"}]}]}});
    assert_eq!(layout.share(&object), Ok(weight(500)));
    let refs = &moved(&layout, &object, 0)["spec"]["rules"][0]["backendRefs"];
    assert_eq!(refs, &json!([{"name": "a", "weight": 100}, {"name": "b", "weight": 0}]));
}

#[test]
fn traefik_has_exactly_both_services() {
    let layout = traefik::TraefikService { services: both("a", "b") };
    let service = |name: &str, weight: u64| json!({"name": name, "port": 80, "weight": weight});
    let object = json!({"spec": {"weighted": {"services": [service("a", 1), service("b", 0)], "sticky": {"cookie": {}}}}});
    let after = moved(&layout, &object, 300);
    assert_eq!(after["spec"]["weighted"]["services"], json!([service("a", 70), service("b", 30)]));
    assert_eq!(after["spec"]["weighted"]["sticky"], json!({"cookie": {}}));
    let error = layout.share(&json!({"spec": {"mirroring": {}}})).unwrap_err();
    assert!(error.contains("[] and not exactly a and b"), "{error}");
}

#[test]
fn a_selector_is_all_or_nothing() {
    let layout = service::Selector { label: "app.kubernetes.io/version".to_owned(), values: both("blue", "green") };
    let object = json!({"spec": {"selector": {"app": "shop", "app.kubernetes.io/version": "blue"}}});
    assert_eq!(layout.share(&object), Ok(Weight::ZERO));
    let after = moved(&layout, &object, 1000);
    assert_eq!(after["spec"]["selector"], json!({"app": "shop", "app.kubernetes.io/version": "green"}));
    assert!(layout.patch(&object, weight(500)).unwrap_err().contains("all or nothing"));
    let red = json!({"spec": {"selector": {"app.kubernetes.io/version": "red"}}});
    assert!(layout.patch(&red, Weight::ZERO).unwrap_err().contains("neither blue nor green"));
}

fn ingress(annotations: Value, service: &str) -> Value {
    let path = json!({"path": "/", "backend": {"service": {"name": service, "port": {"number": 80}}}});
    json!({"metadata": {"annotations": annotations, "resourceVersion": "5"}, "spec": {"rules": [{"http": {"paths": [path]}}]}})
}

#[test]
fn nginx_annotations_are_texts_of_a_total() {
    const PREFIX: &str = "nginx.ingress.kubernetes.io/";
    let of = |pairs: &[(&str, &str)]| {
        let pairs: serde_json::Map<String, Value> = pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), json!(v))).collect();
        Value::Object(pairs)
    };
    let layout = |weight_total| nginx_ingress::CanaryIngress { services: Some(both("a", "b")), weight_total };
    let object = ingress(of(&[("canary", "true"), ("canary-by-header", "x")]), "b");
    let after = moved(&layout(None), &object, 50);
    assert_eq!(after["metadata"]["annotations"], of(&[("canary", "true"), ("canary-by-header", "x"), ("canary-weight", "5")]));
    assert!(layout(None).patch(&object, weight(5)).unwrap_err().contains("weight-total: 1000"));
    let fine = moved(&layout(Some(1000)), &object, 5);
    let annotation = |object: &Value, key: &str| object["metadata"]["annotations"][format!("{PREFIX}{key}")].clone();
    assert_eq!((annotation(&fine, "canary-weight"), annotation(&fine, "canary-weight-total")), (json!("5"), json!("1000")));
    assert_eq!(annotation(&moved(&layout(None), &fine, 125), "canary-weight"), json!("125"), "the total that is there is honoured");
    let swapped = ingress(of(&[("canary", "true"), ("canary-weight", "30")]), "a");
    assert_eq!(layout(None).share(&swapped), Ok(weight(700)), "it leads to the first");
    assert_eq!(annotation(&moved(&layout(None), &swapped, 1000), "canary-weight"), json!("0"));
    for (annotations, service, said) in [
        (of(&[("canary-weight", "5")]), "b", "no canary Ingress"),
        (of(&[("canary", "true"), ("canary-weight", "many")]), "b", "\"many\""),
        (of(&[("canary", "true"), ("canary-weight", "101")]), "b", "101"),
        (of(&[("canary", "true")]), "c", "[c] and not to one of a and b"),
    ] {
        let error = layout(None).share(&ingress(annotations, service)).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn what_gives_an_nginx_weight_its_meaning_may_not_change_meanwhile() {
    const PREFIX: &str = "nginx.ingress.kubernetes.io/canary";
    let layout = nginx_ingress::CanaryIngress { services: Some(both("a", "b")), weight_total: None };
    let key = |part: &str| format!("{PREFIX}{part}");
    let noted = json!({key(""): "true", key("-weight"): "0", key("-weight-total"): "1000"});
    let read = ingress(noted.clone(), "b");
    let operations = layout.patch(&read, weight(50)).unwrap();
    for (part, value) in [("-weight-total", "100"), ("", "false"), ("-weight", "300")] {
        let mut changed = read.clone();
        changed["metadata"]["annotations"][key(part)] = value.into();
        patched(&changed, &operations).unwrap_err();
    }
    patched(&ingress(noted, "a"), &operations).unwrap_err();
    let mut touched = read.clone();
    touched["metadata"]["resourceVersion"] = "6".into();
    touched["metadata"]["annotations"]["other"] = "x".into();
    assert!(patched(&touched, &operations).is_ok(), "what others change elsewhere does not matter");
    // what is absent cannot be tested but by the version
    for absent in ["-weight", "-weight-total"] {
        let mut read = read.clone();
        read["metadata"]["annotations"].as_object_mut().unwrap().remove(&key(absent));
        let operations = layout.patch(&read, weight(50)).unwrap();
        assert!(patched(&read, &operations).is_ok());
        read["metadata"]["annotations"][key(absent)] = "100".into();
        read["metadata"]["resourceVersion"] = "6".into();
        patched(&read, &operations).unwrap_err();
    }
}

#[test]
fn an_alb_action_keeps_what_it_does_not_know() {
    const KEY: &str = "alb.ingress.kubernetes.io/actions.shop";
    let written = "{\"type\":\"forward\",\"forwardConfig\":{\"targetGroups\":[{\"serviceName\":\"b\",\"servicePort\":\"80\",\"weight\":5},\
                   {\"serviceName\":\"a\",\"servicePort\":80,\"weight\":95}],\"targetGroupStickinessConfig\":{\"enabled\":true,\
                   \"durationSeconds\":200},\"new\":1}}";
    let other = "{\"type\":\"redirect\",\"redirectConfig\":{\"port\":\"443\"}}";
    let object = json!({"metadata": {"annotations": {KEY: written, "alb.ingress.kubernetes.io/actions.ssl": other}}});
    let layout = aws_alb::Action { action: None, services: both("a", "b") };
    assert_eq!(layout.share(&object), Ok(weight(50)));
    let after = moved(&layout, &object, 250);
    let expected = written.replace("\"weight\":5}", "\"weight\":25}").replace("\"weight\":95}", "\"weight\":75}");
    assert_eq!(after["metadata"]["annotations"][KEY], json!(expected), "key order and unknown keys stay");
    assert!(layout.patch(&object, weight(5)).unwrap_err().contains("no whole percent"));
    let twice = json!({"metadata": {"annotations": {KEY: written, "alb.ingress.kubernetes.io/actions.shop2": written}}});
    assert!(layout.share(&twice).unwrap_err().contains("ambiguous"));
    let named = aws_alb::Action { action: Some("shop2".to_owned()), services: both("a", "b") };
    assert_eq!(named.share(&twice), Ok(weight(50)));
    assert!(named.share(&object).unwrap_err().contains("no annotation alb.ingress.kubernetes.io/actions.shop2"));
    let none = json!({"metadata": {"annotations": {"alb.ingress.kubernetes.io/actions.ssl": other}}});
    assert!(layout.share(&none).unwrap_err().contains("forwards to [] and not to exactly a and b"));
}

#[test]
fn a_claim_tests_the_older_number_or_the_version() {
    let bare = json!({"metadata": {"resourceVersion": "7"}});
    let ours = patched(&bare, &claim(&bare, 3)).unwrap();
    assert_eq!(super::generation_of(&ours), Some(3));
    let newer = json!({"metadata": {"resourceVersion": "8"}});
    patched(&newer, &claim(&bare, 3)).unwrap_err();
    let kept = json!({"metadata": {"resourceVersion": "7", "annotations": {"other": "x"}}});
    assert_eq!(patched(&kept, &claim(&kept, 3)).unwrap()["metadata"]["annotations"]["other"], "x");
    let mut touched = ours.clone();
    touched["metadata"]["resourceVersion"] = "9".into();
    assert!(patched(&touched, &claim(&ours, 4)).is_ok(), "what others change elsewhere does not matter");
    touched["metadata"]["annotations"][super::generation::GENERATION] = "4".into();
    patched(&touched, &claim(&ours, 5)).unwrap_err();
}

#[test]
fn the_last_owner_of_a_field_wrote_it() {
    let entry = |manager: &str, time: &str, fields: Value| json!({"manager": manager, "time": time, "fieldsV1": fields});
    let object = json!({"metadata": {"managedFields": [
        entry("kubectl", "2026-11-21T10:00:00Z", json!({"f:spec": {".": {}, "f:hosts": {}, "f:http": {}}})),
        entry("canaryd", "2026-11-21T11:00:00Z", json!({"f:spec": {"f:http": {}}})),
        entry("labeler", "2026-11-21T12:00:00Z", json!({"f:metadata": {"f:labels": {"f:x": {}}}})),
    ]}});
    let path = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    assert_eq!(owner_of(&object, &path(&["spec", "http"])).as_deref(), Some("canaryd"));
    assert_eq!(owner_of(&object, &path(&["spec", "hosts"])).as_deref(), Some("kubectl"));
    assert_eq!(owner_of(&object, &path(&["metadata", "annotations", "a/b"])), None);
    assert_eq!(owner_of(&json!({}), &path(&["spec"])), None);
}
