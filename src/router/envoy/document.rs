//! The route file as a document: the one weighted route in it, and the same document with other weights. Pure.
//!
//! Envoy reads a `DiscoveryResponse` in JSON: `{"version_info":"..","resources":[{"@type":"..RouteConfiguration","name":..,
//! "virtual_hosts":[{"routes":[{"route":{"weighted_clusters":{"clusters":[{"name":..,"weight":..},..]}}}]}]}]}`. It takes the
//! names of fields in both spellings (`version_info`, `versionInfo`), ignores fields it does not know, and takes a bare
//! RouteConfiguration for an empty response: it then keeps the old routes and says that all is well (tried on 1.40).

use crate::model::Weight;
use crate::router::share::{parts, second_share};
use serde_json::{Map, Value};

/// Every version text of ours begins with it.
const OURS: &str = "canaryd-";
/// The sum of weights written where the file states no total.
const TOTAL: u64 = 1000;

/// A route file that was understood.
#[derive(Clone, Debug)]
pub(super) struct Document {
    root: Value,
    pretty: bool,
    /// Of the RouteConfiguration in `resources`, and below it the way to the weighted clusters.
    place: Place,
    /// Which of the two entries is the rule's second cluster.
    second: usize,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    resource: usize,
    host: usize,
    route: usize,
}

impl Document {
    /// Understands the text of a route file.
    ///
    /// # Errors
    /// A sentence: no JSON, no such route configuration, none or more than one route with exactly these two clusters, ...
    pub(super) fn parse(text: &[u8], route: &str, clusters: &[String; 2]) -> Result<Self, String> {
        let root: Value = serde_json::from_slice(text).map_err(|e| format!("is no JSON: {e}"))?;
        let resources = list(&root, "resources", "resources");
        if resources.is_empty() {
            return Err("is no DiscoveryResponse: it has no \"resources\"; Envoy would keep its old routes without a word".to_owned());
        }
        let named = resources.iter().position(|r| r.get("name").and_then(Value::as_str) == Some(route));
        let resource = named.ok_or_else(|| format!("has no route configuration {route:?} among its resources"))?;
        let (host, route) = only_place(&resources[resource], clusters)?;
        let place = Place { resource, host, route };
        let second = usize::from(cluster_names(weighted(&resources[resource], host, route)).nth(1) == Some(&clusters[1]));
        let document = Self { pretty: text.trim_ascii().contains(&b'\n'), root, place, second };
        document.weights()?;
        Ok(document)
    }

    /// What the file calls its version; empty if it has none.
    pub(super) fn version(&self) -> &str {
        field(&self.root, "version_info", "versionInfo").and_then(Value::as_str).unwrap_or("")
    }

    /// The generation in a version text of ours.
    pub(super) fn generation(&self) -> Option<u64> {
        generation_of(self.version())
    }

    /// The version text is ours, and nothing was changed since.
    pub(super) fn untouched(&self) -> bool {
        self.generation().is_some_and(|generation| self.version() == self.version_text(generation))
    }

    /// The share of the rule's second cluster.
    pub(super) fn second_share(&self) -> Result<Weight, String> {
        second_share(self.weights()?).ok_or_else(|| "gives both clusters weight 0".to_owned())
    }

    /// The same with this share for the second cluster, under a version text with this generation.
    ///
    /// # Errors
    /// The file states a `total_weight` of which the share is no whole number.
    pub(super) fn with(&self, second: Weight, generation: u64) -> Result<Self, String> {
        let mut next = self.clone();
        let total = self.total()?.unwrap_or(TOTAL);
        let values = parts(second, total)
            .ok_or_else(|| format!("states total_weight {total}, which cannot represent {second}: remove it, or use steps that fit"))?;
        next.set_weights(values);
        next.set_validate();
        let version = next.version_text(generation);
        set(&mut next.root, "version_info", "versionInfo", Value::String(version));
        Ok(next)
    }

    /// As text, spread over lines if it was before.
    pub(super) fn text(&self) -> Vec<u8> {
        let written = if self.pretty { serde_json::to_vec_pretty(&self.root) } else { serde_json::to_vec(&self.root) };
        let mut text = written.unwrap_or_default(); // a Value is always JSON
        text.push(b'\n');
        text
    }

    fn version_text(&self, generation: u64) -> String {
        let mut bare = self.root.clone();
        if let Value::Object(fields) = &mut bare {
            fields.shift_remove("version_info");
            fields.shift_remove("versionInfo");
        }
        format!("{OURS}{generation}-{:08x}", fnv1a_32(bare.to_string().as_bytes()))
    }

    fn configuration(&self) -> &Value {
        &list(&self.root, "resources", "resources")[self.place.resource]
    }

    fn weighted(&self) -> &Value {
        weighted(self.configuration(), self.place.host, self.place.route)
    }

    /// First and second cluster's, as the rule orders them.
    fn weights(&self) -> Result<[u64; 2], String> {
        weights_of(self.weighted(), self.second)
    }

    fn total(&self) -> Result<Option<u64>, String> {
        let Some(stated) = field(self.weighted(), "total_weight", "totalWeight") else { return Ok(None) };
        let total = whole(stated).filter(|t| *t > 0);
        total.map(Some).ok_or_else(|| format!("states total_weight {stated}, which is no whole number above 0"))
    }

    fn set_weights(&mut self, [first, second]: [u64; 2]) {
        let at = self.second;
        let Some(clusters) = self.weighted_mut().and_then(|w| w.get_mut("clusters")).and_then(Value::as_array_mut) else { return };
        for (position, cluster) in clusters.iter_mut().enumerate() {
            let value = if position == at { second } else { first };
            set(cluster, "weight", "weight", Value::from(value));
        }
    }

    /// Without it Envoy takes a cluster that does not exist, and answers 503 to its share (ENVIRONMENT 2, GOTCHA 4).
    fn set_validate(&mut self) {
        let resource = self.place.resource;
        if let Some(configuration) = self.root.get_mut("resources").and_then(|r| r.get_mut(resource)) {
            set(configuration, "validate_clusters", "validateClusters", Value::Bool(true));
        }
    }

    fn weighted_mut(&mut self) -> Option<&mut Value> {
        let Place { resource, host, route } = self.place;
        let configuration = self.root.get_mut("resources")?.get_mut(resource)?;
        let hosts = spelled_mut(configuration, "virtual_hosts", "virtualHosts")?;
        let action = hosts.get_mut(host)?.get_mut("routes")?.get_mut(route)?.get_mut("route")?;
        spelled_mut(action, "weighted_clusters", "weightedClusters")
    }
}

/// The share of the rule's second cluster in a RouteConfiguration as Envoy's `config_dump` shows it.
pub(super) fn share_in(configuration: &Value, clusters: &[String; 2]) -> Result<Weight, String> {
    let (host, route) = only_place(configuration, clusters)?;
    let weighted = weighted(configuration, host, route);
    let second = usize::from(cluster_names(weighted).nth(1) == Some(&clusters[1]));
    second_share(weights_of(weighted, second)?).ok_or_else(|| "gives both clusters weight 0".to_owned())
}

/// The generation in a version text of ours.
pub(super) fn generation_of(version: &str) -> Option<u64> {
    let (generation, hash) = version.strip_prefix(OURS)?.split_once('-')?;
    let hex = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { generation.parse().ok() } else { None }
}

/// The only route whose weighted clusters are exactly these two.
fn only_place(configuration: &Value, clusters: &[String; 2]) -> Result<(usize, usize), String> {
    let mut found = None;
    for (host, virtual_host) in list(configuration, "virtual_hosts", "virtualHosts").iter().enumerate() {
        for route in 0..list(virtual_host, "routes", "routes").len() {
            if !is_the_pair(weighted(configuration, host, route), clusters) {
                continue;
            }
            if let Some((other_host, other)) = found {
                return Err(format!(
                    "has more than one route with the clusters {:?} and {:?} (virtual host {other_host} route {other}, and virtual host \
                     {host} route {route}): give each pair its own route",
                    clusters[0], clusters[1]
                ));
            }
            found = Some((host, route));
        }
    }
    let [first, second] = clusters;
    let (host, route) = found.ok_or_else(|| format!("has no route whose weighted_clusters are exactly {first:?} and {second:?}"))?;
    match field(weighted(configuration, host, route), "runtime_key_prefix", "runtimeKeyPrefix") {
        Some(prefix) => Err(format!("lets runtime keys {prefix} override the weights of the route: remove them, or name them in the rule")),
        None => Ok((host, route)),
    }
}

fn is_the_pair(weighted: &Value, clusters: &[String; 2]) -> bool {
    let mut names: Vec<&str> = cluster_names(weighted).collect();
    let mut wanted: Vec<&str> = clusters.iter().map(String::as_str).collect();
    names.sort_unstable();
    wanted.sort_unstable();
    names == wanted
}

fn weighted(configuration: &Value, host: usize, route: usize) -> &Value {
    let hosts = list(configuration, "virtual_hosts", "virtualHosts");
    let action = hosts.get(host).and_then(|h| list(h, "routes", "routes").get(route)).and_then(|r| r.get("route"));
    action.and_then(|a| field(a, "weighted_clusters", "weightedClusters")).unwrap_or(&Value::Null)
}

fn cluster_names(weighted: &Value) -> impl Iterator<Item = &str> {
    list(weighted, "clusters", "clusters").iter().map(|c| c.get("name").and_then(Value::as_str).unwrap_or(""))
}

fn weights_of(weighted: &Value, second: usize) -> Result<[u64; 2], String> {
    let weight = |cluster: &Value| match cluster.get("weight") {
        None => Ok(0),
        Some(value) => whole(value).ok_or_else(|| format!("has a cluster of weight {value}, which is no whole number")),
    };
    let values: Vec<u64> = list(weighted, "clusters", "clusters").iter().map(weight).collect::<Result<_, _>>()?;
    match values[..] {
        [a, b] if second == 1 => Ok([a, b]),
        [a, b] => Ok([b, a]),
        _ => Err("has no two weighted clusters".to_owned()),
    }
}

/// Protobuf's JSON takes a number or its text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// A field in either spelling.
fn field<'a>(of: &'a Value, snake: &str, camel: &str) -> Option<&'a Value> {
    of.get(snake).or_else(|| of.get(camel)).filter(|v| !v.is_null())
}

fn spelled_mut<'a>(of: &'a mut Value, snake: &str, camel: &str) -> Option<&'a mut Value> {
    let key = if of.get(snake).is_some() { snake } else { camel };
    of.get_mut(key)
}

fn list<'a>(of: &'a Value, snake: &str, camel: &str) -> &'a [Value] {
    field(of, snake, camel).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// In the spelling that is there, else the snake one.
fn set(of: &mut Value, snake: &str, camel: &str, value: Value) {
    let Value::Object(fields) = of else { return };
    let fields: &mut Map<String, Value> = fields;
    let key = if fields.contains_key(camel) { camel } else { snake };
    fields.insert(key.to_owned(), value);
}

/// Fowler, Noll and Vo's hash: tells an edited file from an untouched one, keeps nobody out.
fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> [String; 2] {
        ["v1".to_owned(), "v2".to_owned()]
    }

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(text.as_bytes(), "main", &clusters())
    }

    fn weight(permille: u16) -> Weight {
        Weight::from_permille(permille).unwrap()
    }

    /// A file with these weighted clusters in its second route.
    fn file(weighted: &str) -> String {
        let route = format!(r#"{{"match":{{"prefix":"/"}},"route":{{"timeout":"5s","weighted_clusters":{weighted}}}}}"#);
        let other = r#"{"match":{"prefix":"/admin"},"route":{"cluster":"v1"}}"#;
        let hosts = format!(r#"[{{"name":"all","domains":["*"],"routes":[{other},{route}]}}]"#);
        format!(r#"{{"version_info":"7","resources":[{{"name":"other"}},{{"@type":"x","name":"main","virtual_hosts":{hosts},"z":1}}]}}"#)
    }

    fn pair(first: &str, second: &str) -> String {
        file(&format!(r#"{{"clusters":[{{"name":"v1","weight":{first}}},{{"name":"v2","weight":{second},"x":[]}}]}}"#))
    }

    #[test]
    fn only_weights_version_and_validation_change_and_the_order_stays() {
        let next = parse(&pair("100", "0")).unwrap().with(weight(125), 9).unwrap();
        let expected = pair("875", "125")
            .replace(r#""version_info":"7""#, &format!(r#""version_info":"{}""#, next.version()))
            .replace(r#""z":1"#, r#""z":1,"validate_clusters":true"#);
        assert_eq!(String::from_utf8(next.text()).unwrap(), format!("{expected}\n"));
        assert_eq!((next.generation(), next.untouched(), next.second_share()), (Some(9), true, Ok(weight(125))));
    }

    #[test]
    fn the_same_wish_is_the_same_text_and_another_generation_is_not() {
        let one = parse(&pair("100", "0")).unwrap().with(weight(50), 1).unwrap();
        let again = parse(std::str::from_utf8(&one.text()).unwrap()).unwrap().with(weight(50), 1).unwrap();
        assert_eq!(one.text(), again.text());
        assert_ne!(one.version(), again.with(weight(50), 2).unwrap().version());
        assert_ne!(one.version(), again.with(weight(51), 1).unwrap().version());
    }

    #[test]
    fn an_edit_under_our_version_is_seen() {
        let ours = parse(&pair("1", "1")).unwrap().with(weight(50), 3).unwrap();
        let edited = String::from_utf8(ours.text()).unwrap().replace("950", "900").replace(":50", ":100");
        let edited = parse(&edited).unwrap();
        assert_eq!((edited.version(), edited.untouched(), edited.second_share()), (ours.version(), false, Ok(weight(100))));
    }

    #[test]
    fn clusters_in_the_other_order_keep_it() {
        let swapped = file(r#"{"clusters":[{"name":"v2","weight":30},{"name":"v1","weight":70}]}"#);
        let document = parse(&swapped).unwrap();
        assert_eq!(document.second_share(), Ok(weight(300)));
        let text = String::from_utf8(document.with(weight(400), 1).unwrap().text()).unwrap();
        assert!(text.contains(r#"[{"name":"v2","weight":400},{"name":"v1","weight":600}]"#), "{text}");
    }

    #[test]
    fn camel_case_stays_camel_case() {
        let camel = pair("100", "0")
            .replace("version_info", "versionInfo")
            .replace("virtual_hosts", "virtualHosts")
            .replace("weighted_clusters", "weightedClusters")
            .replace(r#""z":1"#, r#""validateClusters":false"#);
        let next = parse(&camel).unwrap().with(weight(10), 2).unwrap();
        let text = String::from_utf8(next.text()).unwrap();
        assert!(text.contains(r#""versionInfo":"canaryd-2-"#) && text.contains(r#""validateClusters":true"#), "{text}");
        assert!(!text.contains('_'), "{text}");
    }

    #[test]
    fn a_stated_total_is_kept_and_never_rounded() {
        let stated = file(r#"{"clusters":[{"name":"v1","weight":"100"},{"name":"v2"}],"total_weight":100}"#);
        let document = parse(&stated).unwrap();
        assert_eq!(document.second_share(), Ok(Weight::ZERO));
        assert_eq!(document.with(weight(50), 1).unwrap().second_share(), Ok(weight(50)));
        let text = String::from_utf8(document.with(weight(50), 1).unwrap().text()).unwrap();
        assert!(text.contains(r#"{"name":"v1","weight":95},{"name":"v2","weight":5}"#) && text.contains(r#""total_weight":100"#), "{text}");
        let error = document.with(weight(125), 1).unwrap_err();
        assert!(error.contains("total_weight 100") && error.contains("12.5%"), "{error}");
    }

    #[test]
    fn what_is_not_the_rules_route_is_refused_with_the_reason() {
        let twice =
            pair("1", "0").replacen(r#"{"cluster":"v1"}"#, r#"{"weighted_clusters":{"clusters":[{"name":"v2"},{"name":"v1"}]}}"#, 1);
        let bare = r#"{"@type":"RouteConfiguration","name":"main","virtual_hosts":[]}"#;
        let three = r#"{"clusters":[{"name":"v1"},{"name":"v2"},{"name":"v3"}]}"#;
        let keyed = r#"{"runtime_key_prefix":"p","clusters":[{"name":"v1"},{"name":"v2"}]}"#;
        let total = r#"{"total_weight":0,"clusters":[{"name":"v1"},{"name":"v2"}]}"#;
        let cases = [
            ("resources: []", "is no JSON"),
            ("", "is no JSON"),
            ("[1]", "is no DiscoveryResponse"),
            (bare, "is no DiscoveryResponse"),
            (r#"{"resources":[{"name":"other"}]}"#, "has no route configuration \"main\""),
            (&twice, "more than one route"),
            (&file(three), "has no route whose weighted_clusters are exactly"),
            (&file(keyed), "runtime keys \"p\" override"),
            (&pair("-1", "5"), "no whole number"),
            (&pair("0.5", "5"), "no whole number"),
        ];
        for (text, why) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(parse(&file(total)).unwrap().with(weight(1), 1).unwrap_err().contains("total_weight 0"));
        assert!(parse(&pair("0", "0")).unwrap().second_share().unwrap_err().contains("weight 0"));
    }

    #[test]
    fn only_a_version_text_of_ours_has_a_generation() {
        assert_eq!(generation_of("canaryd-12-00ff00ff"), Some(12));
        for other in ["", "12", "canaryd-12", "canaryd-x-00ff00ff", "canaryd-12-00ff", "canaryd--1-00ff00ff"] {
            assert_eq!(generation_of(other), None, "{other}");
        }
    }
}
