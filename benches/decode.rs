//! How fast an answer of Prometheus becomes rows: a body of 20,000 series with five labels (DEPENDENCIES 1.2: the client
//! crate's own types need 77 ms and 320,000 allocations for it). `cargo bench --bench decode`.

use canaryd::source::prometheus::decoder::Decoder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;

const SERIES: usize = 20_000;

fn body() -> Vec<u8> {
    let mut body = String::from(r#"{"status":"success","data":{"resultType":"vector","result":["#);
    for i in 0..SERIES {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"metric":{{"namespace":"production","pod":"chatbot-v2-5d8f7c9b6-{i:05}","destination_workload":"chatbot-v2","response_code":"200","request_protocol":"http"}},"value":[1700000000.781,"{}"]}}"#,
            i * 17
        );
    }
    body.push_str("]}}");
    body.into_bytes()
}

fn decode(c: &mut Criterion) {
    let body = body();
    let mut decoder = Decoder::default();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.sample_size(30);
    group.bench_function("vector of 20,000 series", |b| {
        b.iter(|| {
            decoder.decode(200, "application/json", black_box(&body)).expect("a body");
            black_box(decoder.rows().count())
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
