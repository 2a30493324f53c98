//! Parses nothing itself: hands over to `cli`, turns its answer into an exit code.

fn main() {}
