//! Classes of requests: which values of the kept labels make them bad, good, or not count. The first rule that matches wins.

use super::grammar::Outcome;
use regex_lite::Regex;

/// gRPC codes that are the server's fault (PACKS 1.6), in every spelling.
const GRPC_BAD: &[u32] = &[2, 4, 12, 13, 14, 15];
/// Names of the gRPC codes, by number.
const GRPC: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// One class rule, compiled.
#[derive(Clone, Debug)]
pub struct ClassMatch {
    /// Position of the label among those kept, and what its value must match.
    pub(super) labels: Vec<(usize, Regex)>,
    /// What the class is.
    pub(super) is: Outcome,
}

/// `@grpc-bad`, `@grpc-bad+8` as a regex of every spelling; anything else as it is.
pub(super) fn grpc_set(pattern: &str) -> Result<String, String> {
    let Some(more) = pattern.strip_prefix("@grpc-bad") else {
        return if pattern.starts_with('@') { Err(format!("unknown set {pattern:?}, there is @grpc-bad")) } else { Ok(pattern.to_owned()) };
    };
    let mut codes = GRPC_BAD.to_vec();
    for code in more.split('+').filter(|c| !c.is_empty()) {
        codes.push(code.parse().ok().filter(|c| *c <= 16).ok_or_else(|| format!("set {pattern:?}: {code:?} is no gRPC code"))?);
    }
    let spellings = codes.iter().flat_map(|c| {
        let (camel, upper) = GRPC[*c as usize];
        [c.to_string(), camel.to_owned(), upper.to_owned()]
    });
    Ok(spellings.collect::<Vec<_>>().join("|"))
}
