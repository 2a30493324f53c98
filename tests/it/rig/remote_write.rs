//! What Prometheus' remote write receiver takes: protobuf by hand, forty lines instead of a compiler.

/// One series to be written.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    labels: Vec<(String, String)>,
    samples: Vec<(i64, f64)>,
    histograms: Vec<(i64, u64)>,
}

impl Series {
    /// A series without samples.
    pub(crate) fn new(name: &str, labels: &[(&str, &str)]) -> Self {
        let mut labels: Vec<(String, String)> = labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        labels.push(("__name__".to_owned(), name.to_owned()));
        labels.sort();
        Self { labels, samples: Vec::new(), histograms: Vec::new() }
    }

    /// A series without samples, written as `name{label="value",...}`.
    ///
    /// # Panics
    /// If it is not written so.
    pub(crate) fn parse(series: &str) -> Self {
        let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
        let pair = |pair: &'_ str| {
            let (label, value) = pair.split_once("=\"").expect("label=\"value\"");
            (label.to_owned(), value.trim_end_matches('"').to_owned())
        };
        let labels: Vec<_> = rest.trim_end_matches('}').split("\",").filter(|p| !p.is_empty()).map(pair).collect();
        Self::new(name, &labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>())
    }

    /// With one more sample: Unix time in milliseconds, value.
    pub(crate) fn at(mut self, time_ms: i64, value: f64) -> Self {
        self.samples.push((time_ms, value));
        self
    }

    /// With more samples.
    pub(crate) fn all(mut self, samples: impl IntoIterator<Item = (i64, f64)>) -> Self {
        self.samples.extend(samples);
        self
    }

    /// With one more native histogram, of one bucket: Unix time in milliseconds, count.
    pub(crate) fn native(mut self, time_ms: i64, count: u64) -> Self {
        self.histograms.push((time_ms, count));
        self
    }

    /// `TimeSeries { 1: Label { 1: name, 2: value }, 2: Sample { 1: double, 2: int64 ms }, 4: Histogram }`.
    fn encoded(&self) -> Vec<u8> {
        let mut out: Vec<u8> = self
            .labels
            .iter()
            .flat_map(|(name, value)| field(1, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()))
            .collect();
        for (time_ms, value) in &self.samples {
            let mut sample = double(1, *value);
            sample.extend(number(2, time_ms.cast_unsigned()));
            out.extend(field(2, &sample));
        }
        out.extend(self.histograms.iter().flat_map(|(time_ms, count)| field(4, &histogram(*time_ms, *count))));
        out
    }
}

/// The staleness marker a failed scrape leaves.
pub(crate) fn stale() -> f64 {
    f64::from_bits(0x7ff0_0000_0000_0002)
}

/// `WriteRequest { 1: TimeSeries }`, compressed.
pub(super) fn request(series: &[Series]) -> Vec<u8> {
    let plain: Vec<u8> = series.iter().flat_map(|one| field(1, &one.encoded())).collect();
    snap::raw::Encoder::new().compress_vec(&plain).expect("snappy")
}

/// `Histogram { 1: count, 3: sum, 4: schema 0, 5: zero threshold, 6: zero count, 11: span { 1: offset 0, 2: length 1 },
/// 12: deltas, 15: ms }`.
fn histogram(time_ms: i64, count: u64) -> Vec<u8> {
    let span = [number(1, 0), number(2, 1)].concat();
    let mut delta = Vec::new();
    varint(&mut delta, count * 2); // zigzag
    let parts = [number(1, count), double(3, count as f64), number(4, 0), double(5, 1e-128), number(6, 0)];
    [parts.concat(), field(11, &span), field(12, &delta), number(15, time_ms.cast_unsigned())].concat()
}

/// A length-delimited field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn number(number: u8, value: u64) -> Vec<u8> {
    let mut out = vec![number << 3];
    varint(&mut out, value);
    out
}

fn double(number: u8, value: f64) -> Vec<u8> {
    let mut out = vec![number << 3 | 1];
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
