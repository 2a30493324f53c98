//! The embedded page: static assets compiled in, served by `api`, using only the public API. Not in this build: `canaryd status`
//! and `canaryd watch` show what the page will.
