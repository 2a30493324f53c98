//! The whole product against the real world: two versions behind a real Envoy or HAProxy, scraped by a real Prometheus, under load,
//! judged and moved by the real binary. Few and slow (each pays the 5 s until Prometheus scrapes); logic is tested below.
//!
//! The method's clock runs [`stage::Scene::time_scale`] times faster; nothing else differs from an operator's set-up. First
//! file to read: `stage.rs`.

mod edge;
mod faults;
mod gates;
mod haproxy;
mod metrics;
mod operation;
mod releases;
mod sight;
mod stage;
mod traffic;
mod webhook;
