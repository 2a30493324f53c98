//! Where an object keeps the two arms' weights: the common part of all kinds. Pure: what it is asked it answers from the object.

use crate::model::Weight;
use crate::router::share::{parts, second_share};
use serde_json::{Value, json};
use std::fmt;

/// Totals a reader understands; a total that is none of them is replaced.
const TOTALS: [u64; 3] = [100, 1000, 10_000];

/// One kind of object.
pub(super) trait Layout: Send + Sync + fmt::Debug {
    /// The second workload's share.
    ///
    /// # Errors
    /// The object is not as the rule says; what it should be like.
    fn share(&self, object: &Value) -> Result<Weight, String>;

    /// JSON Patch operations that test what was read and replace the numbers.
    ///
    /// # Errors
    /// As [`Self::share`], or the share cannot be represented.
    fn patch(&self, object: &Value, second: Weight) -> Result<Vec<Value>, String>;

    /// Path of a weight, for finding out who owns it.
    fn field(&self, object: &Value) -> Option<Vec<String>>;

    /// The entry's name, of an object that may have several.
    fn entry_name(&self) -> Option<&str> {
        None
    }

    /// May more traffic be sent this way, by what is known of who obeys the object?
    ///
    /// # Errors
    /// Why not.
    fn sound(&self, _object: &Value) -> Result<(), String> {
        Ok(())
    }

    /// Does what obeys the object say that it took this version of it?
    fn taken(&self, _object: &Value) -> Taken {
        Taken::Yes
    }
}

/// An answer of what obeys the object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It did, or such objects have no place to say it.
    Yes,
    /// It has not said so yet.
    NotYet(String),
    /// It will not.
    No(String),
}

/// A JSON pointer (RFC 6901).
pub(super) fn pointer(path: &[&str]) -> String {
    path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect()
}

/// The version an object was read at.
pub(super) fn version_of(object: &Value) -> &str {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("")
}

/// A test that nobody wrote the object since: for what no other test of JSON Patch can say.
pub(super) fn same_version(object: &Value) -> Value {
    json!({"op": "test", "path": "/metadata/resourceVersion", "value": version_of(object)})
}

/// Tests that what is at each path is as it was read. JSON Patch cannot test that something is absent: then it is the version's.
pub(super) fn as_read<'a>(object: &'a Value, paths: &'a [String]) -> impl Iterator<Item = Value> + 'a {
    paths.iter().map(|path| match object.pointer(path) {
        Some(value) => json!({"op": "test", "path": path, "value": value}),
        None => same_version(object),
    })
}

/// Tests that the entry of a list at `path` is the one that was read: another may have come before it, with the same destinations. Its
/// name tells, and what it is for (`condition`, where it has one); of one without a name only the object's version does.
pub(super) fn same_entry(object: &Value, path: &str, condition: &str) -> Vec<Value> {
    let mut tested = vec![format!("{path}/name")];
    tested.extend(Some(format!("{path}/{condition}")).filter(|condition| object.pointer(condition).is_some()));
    as_read(object, &tested).collect()
}

/// A list of exactly two entries that are the two arms, each with a `weight`.
#[derive(Debug)]
pub(super) struct WeightedList<'a> {
    /// Where it is in the object.
    pub(super) path: String,
    pub(super) list: &'a Value,
    /// Position of each arm.
    pub(super) places: [usize; 2],
    /// What an entry without a weight has.
    pub(super) unset: u64,
}

impl WeightedList<'_> {
    fn weights(&self) -> Result<[u64; 2], String> {
        let of = |place: usize| match self.list.get(place).and_then(|entry| entry.get("weight")) {
            None | Some(Value::Null) => Ok(self.unset),
            Some(weight) => weight.as_u64().ok_or_else(|| format!("weight {weight} at {}/{place} is no whole number", self.path)),
        };
        Ok([of(self.places[0])?, of(self.places[1])?])
    }

    pub(super) fn share(&self) -> Result<Weight, String> {
        second_share(self.weights()?).ok_or_else(|| format!("both weights at {} are 0: nobody gets the traffic", self.path))
    }

    /// The whole list is tested: names, numbers, and that nobody added a third.
    pub(super) fn patch(&self, second: Weight) -> Result<Vec<Value>, String> {
        let [a, b] = self.weights()?;
        let numbers = split(a.saturating_add(b), second)?;
        let mut operations = vec![json!({"op": "test", "path": self.path, "value": self.list})];
        for (place, number) in self.places.into_iter().zip(numbers) {
            // add, which replaces: the weight may be absent
            operations.push(json!({"op": "add", "path": format!("{}/{place}/weight", self.path), "value": number}));
        }
        Ok(operations)
    }
}

/// Both numbers for this share: of the total that is there if it is a usual one, else of the smallest usual one that can
/// represent the share.
fn split(total: u64, second: Weight) -> Result<[u64; 2], String> {
    let kept = TOTALS.into_iter().filter(|t| *t == total);
    let found = kept.chain(TOTALS).find_map(|t| parts(second, t));
    found.ok_or_else(|| format!("{second} cannot be represented"))
}

/// Both arms' places in a list of exactly these two, told apart by `is`.
pub(super) fn places(list: &[Value], is: impl Fn(&Value, usize) -> bool) -> Option<[usize; 2]> {
    if list.len() != 2 {
        return None;
    }
    let of = |side: usize| {
        let mut all = (0..2).filter(|i| is(&list[*i], side));
        all.next().filter(|_| all.next().is_none())
    };
    let both = [of(0)?, of(1)?];
    (both[0] != both[1]).then_some(both)
}

/// A list of entries of which one is to be used: that of this name, else the only one that fits.
pub(super) struct Choice<'a> {
    /// Where the list is, as an operator writes it.
    pub(super) list: &'static str,
    /// The key of the rule that names an entry.
    pub(super) key: &'static str,
    /// What each entry would have to send to.
    pub(super) wanted: String,
    pub(super) entries: Vec<Entry<'a>>,
}

/// One of them.
pub(super) struct Entry<'a> {
    pub(super) name: Option<&'a str>,
    /// It sends to exactly both arms.
    pub(super) fits: bool,
    /// It is for some requests only, told by a header or the like: a person's tests, which are not ours to move unasked.
    pub(super) special: bool,
    /// What it sends to.
    pub(super) sends_to: Vec<String>,
}

impl Entry<'_> {
    fn told(&self, position: usize) -> String {
        let name = self.name.map_or_else(|| format!("#{position}"), |name| format!("{name:?}"));
        let special = if self.special { ", only for requests with certain headers" } else { "" };
        format!("{name} sends to [{}]{special}", self.sends_to.join(", "))
    }
}

impl Choice<'_> {
    /// Its position.
    ///
    /// # Errors
    /// None fits, or more than one; with all candidates named.
    pub(super) fn pick(&self, named: Option<&str>) -> Result<usize, String> {
        match named {
            Some(name) => self.of_name(name),
            None => self.only_one(),
        }
    }

    fn of_name(&self, name: &str) -> Result<usize, String> {
        let all: Vec<usize> = (0..self.entries.len()).filter(|i| self.entries[*i].name == Some(name)).collect();
        match all.as_slice() {
            [one] if self.entries[*one].fits => Ok(*one),
            [one] => Err(format!("{} does not send to exactly {}", self.entries[*one].told(*one), self.wanted)),
            [] => Err(format!("{} has no entry named {name:?}; it has: {}", self.list, self.all())),
            _ => Err(format!("{} has {} entries named {name:?}: their names must differ", self.list, all.len())),
        }
    }

    fn only_one(&self) -> Result<usize, String> {
        let fit: Vec<usize> = (0..self.entries.len()).filter(|i| self.entries[*i].fits && !self.entries[*i].special).collect();
        match fit.as_slice() {
            [one] => Ok(*one),
            [] => Err(format!("no entry of {} sends to exactly {}; it has: {}", self.list, self.wanted, self.all())),
            several => {
                let told: Vec<String> = several.iter().map(|i| self.entries[*i].told(*i)).collect();
                Err(format!("ambiguous: {}: name one in the rule with {}", told.join("; "), self.key))
            }
        }
    }

    fn all(&self) -> String {
        let told: Vec<String> = self.entries.iter().enumerate().map(|(i, e)| e.told(i)).collect();
        if told.is_empty() { "none".to_owned() } else { told.join("; ") }
    }
}

/// The items of a list in an object, none if it is absent.
pub(super) fn items<'a>(object: &'a Value, path: &str) -> &'a [Value] {
    object.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text in an object.
pub(super) fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}
