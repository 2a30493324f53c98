//! Answers of the HTTP API into reused columns. The client crate's own types allocate sixteen times a row, drop `warnings`,
//! and fail whole bodies on native histograms or an `errorType` they do not know (DEPENDENCIES 1.2); here a row costs no
//! allocation once the buffers have grown, and a server's words always come through.

use super::fault::Fault;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::ops::Range;

/// How much of a strange body is shown.
const EXCERPT_MAX: usize = 200;
/// How much of a server's error text is kept.
const WORDS_MAX: usize = 1000;
/// Most warnings kept of one answer.
const WARNINGS_MAX: usize = 5;

/// What kind of rows an answer holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResultType {
    /// One sample per series.
    Vector,
    /// Several samples per series.
    Matrix,
    /// One number.
    Scalar,
    /// A text.
    Text,
    /// The answer does not say.
    #[default]
    Unsaid,
    /// Something this API does not have.
    Unknown,
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vector => "vector",
            Self::Matrix => "matrix",
            Self::Scalar => "scalar",
            Self::Text => "string",
            Self::Unsaid => "result of no type",
            Self::Unknown => "result of an unknown type",
        })
    }
}

/// One sample: seconds since the epoch, value.
pub type Point = (f64, f64);

#[derive(Clone, Debug, Default)]
struct Row {
    labels: Range<usize>,
    points: Range<usize>,
    histogram: bool,
}

/// The rows of one answer, in columns that are reused for the next.
#[derive(Debug, Default)]
pub struct Decoder {
    text: String,
    labels: Vec<(Range<usize>, Range<usize>)>,
    points: Vec<Point>,
    rows: Vec<Row>,
    status: String,
    error_type: String,
    error: String,
    warnings: Vec<String>,
    result_type: ResultType,
}

/// One row of an answer.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    of: &'a Decoder,
    row: &'a Row,
}

impl<'a> RowRef<'a> {
    /// The value of a label; the empty text if the series does not have it.
    pub fn label(&self, name: &str) -> &'a str {
        self.labels().find(|(n, _)| *n == name).map_or("", |(_, value)| value)
    }

    /// All labels.
    pub fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let of = self.of;
        of.labels[self.row.labels.clone()].iter().map(|(name, value)| (&of.text[name.clone()], &of.text[value.clone()]))
    }

    /// Its samples: one of a vector, several of a matrix, none where there are only native histograms.
    pub fn points(&self) -> &'a [Point] {
        &self.of.points[self.row.points.clone()]
    }

    /// The last value, if there is any.
    pub fn value(&self) -> Option<f64> {
        self.points().last().map(|(_, v)| *v)
    }

    /// Does it hold native histograms?
    pub const fn histogram(&self) -> bool {
        self.row.histogram
    }
}

impl Decoder {
    /// Takes in one body of this content type (named where it is none of this API). Buffers of the answer before are reused.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn decode(&mut self, status: u16, content_type: &str, body: &[u8]) -> Result<(), Fault> {
        self.clear();
        let mut json = serde_json::Deserializer::from_slice(body);
        let read = Envelope(self).deserialize(&mut json).and_then(|()| json.end());
        match read {
            Ok(()) if self.status == "success" && (200..300).contains(&status) => Ok(()),
            Ok(()) if self.status == "error" => Err(self.refusal(status)),
            Ok(()) => Err(strange(status, content_type, "it says neither success nor error", body)),
            Err(why) => Err(strange(status, content_type, &why.to_string(), body)),
        }
    }

    /// What kind of rows these are.
    pub fn result_type(&self) -> ResultType {
        self.result_type
    }

    /// The server's reservations about its answer: something could not be seen.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Rows, in the server's order.
    pub fn rows(&self) -> impl Iterator<Item = RowRef<'_>> {
        self.rows.iter().map(move |row| RowRef { of: self, row })
    }

    fn clear(&mut self) {
        self.text.clear();
        self.labels.clear();
        self.points.clear();
        self.rows.clear();
        self.status.clear();
        self.error_type.clear();
        self.error.clear();
        self.warnings.clear();
        self.result_type = ResultType::Unsaid;
    }

    /// An answer that says "error": is it the query, or the server?
    fn refusal(&self, status: u16) -> Fault {
        // a parse error may repeat the whole query
        let error: String = self.error.chars().take(WORDS_MAX).collect();
        let words = format!("{error} ({}, HTTP {status})", self.error_type);
        match (status, &*self.error_type) {
            (401 | 403, _) => Fault::Unauthorized(words),
            (429, _) => Fault::Busy(words),
            (_, "timeout") => Fault::Slow(words),
            (_, "canceled" | "unavailable" | "internal") => Fault::Down(words),
            (400 | 404 | 406 | 413 | 422, _) => Fault::Rejected(words),
            _ => Fault::Down(words),
        }
    }
}

/// A body that is no answer: a proxy's page, plain text, half of one, nothing.
fn strange(status: u16, content_type: &str, why: &str, body: &[u8]) -> Fault {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT_MAX * 2)]);
    let excerpt: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(EXCERPT_MAX).collect();
    let kind = if content_type.is_empty() { String::new() } else { format!(" ({content_type})") };
    let words = if excerpt.is_empty() { format!("HTTP {status}{kind} without a body") } else { format!("HTTP {status}{kind}: {excerpt}") };
    match status {
        401 | 403 => Fault::Unauthorized(words),
        429 => Fault::Busy(words),
        408 | 500.. => Fault::Down(words),
        200..300 if !excerpt.is_empty() => Fault::Body(format!("the body is no answer of this API ({why}): {words}")),
        _ => Fault::Body(words),
    }
}

/// Appends a JSON string to a text, and says where it went.
struct Append<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = Range<usize>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = Range<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<E: de::Error>(self, s: &str) -> Result<Self::Value, E> {
        let from = self.0.len();
        self.0.push_str(s);
        Ok(from..self.0.len())
    }
}

/// The members this API knows.
#[derive(Clone, Copy)]
enum Key {
    Status,
    Data,
    ErrorType,
    Error,
    Warnings,
    Result,
    ResultType,
    Metric,
    Value,
    Values,
    Histogram,
    Other,
}

impl<'de> de::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member")
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Key, E> {
                Ok(match s {
                    "status" => Key::Status,
                    "data" => Key::Data,
                    "errorType" => Key::ErrorType,
                    "error" => Key::Error,
                    "warnings" => Key::Warnings,
                    "result" => Key::Result,
                    "resultType" => Key::ResultType,
                    "metric" => Key::Metric,
                    "value" => Key::Value,
                    "values" => Key::Values,
                    "histogram" | "histograms" => Key::Histogram,
                    _ => Key::Other,
                })
            }
        }
        d.deserialize_identifier(Name)
    }
}

impl<'de> de::Deserialize<'de> for ResultType {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(match &*String::deserialize(d)? {
            "vector" => Self::Vector,
            "matrix" => Self::Matrix,
            "scalar" => Self::Scalar,
            "string" => Self::Text,
            _ => Self::Unknown,
        })
    }
}

/// A visitor of one kind of JSON value that works on a part of the decoder.
macro_rules! seed {
    ($name:ident, $method:ident) => {
        struct $name<'a>(&'a mut Decoder);
        impl<'de> DeserializeSeed<'de> for $name<'_> {
            type Value = ();
            fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
                d.$method(self)
            }
        }
    };
}

fn ignore<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

seed!(Envelope, deserialize_map);
seed!(Data, deserialize_any);
seed!(Elements, deserialize_seq);
seed!(Element, deserialize_any);
seed!(Labels, deserialize_map);
seed!(Sample, deserialize_seq);
seed!(Samples, deserialize_seq);
seed!(Warnings, deserialize_any);

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Status => self.0.status = map.next_value()?,
                Key::ErrorType => self.0.error_type = map.next_value()?,
                Key::Error => self.0.error = map.next_value()?,
                Key::Warnings => map.next_value_seed(Warnings(self.0))?,
                Key::Data => map.next_value_seed(Data(self.0))?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data")
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Result => map.next_value_seed(Elements(self.0))?,
                Key::ResultType => self.0.result_type = map.next_value()?,
                _ => ignore(&mut map)?,
            }
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Element(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Element<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let of = self.0;
        let (labels, points) = (of.labels.len(), of.points.len());
        let mut histogram = false;
        while let Some(key) = map.next_key::<Key>()? {
            match key {
                Key::Metric => map.next_value_seed(Labels(of))?,
                Key::Value => map.next_value_seed(Sample(of))?,
                Key::Values => map.next_value_seed(Samples(of))?,
                Key::Histogram => {
                    histogram = true;
                    ignore(&mut map)?;
                }
                _ => ignore(&mut map)?,
            }
        }
        of.rows.push(Row { labels: labels..of.labels.len(), points: points..of.points.len(), histogram });
        Ok(())
    }

    // a scalar's result is [time, "value"]: the time opens a row without labels, the value completes it
    fn visit_f64<E: de::Error>(self, time: f64) -> Result<(), E> {
        let (labels, points) = (self.0.labels.len(), self.0.points.len());
        self.0.points.push((time, f64::NAN));
        self.0.rows.push(Row { labels: labels..labels, points: points..points + 1, histogram: false });
        Ok(())
    }
    fn visit_u64<E: de::Error>(self, time: u64) -> Result<(), E> {
        self.visit_f64(time as f64)
    }
    fn visit_i64<E: de::Error>(self, time: i64) -> Result<(), E> {
        self.visit_f64(time as f64)
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        if let Some(point) = self.0.points.last_mut() {
            point.1 = value.parse().unwrap_or(f64::NAN);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Labels<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Append(&mut self.0.text))? {
            let value = map.next_value_seed(Append(&mut self.0.text))?;
            self.0.labels.push((name, value));
        }
        Ok(())
    }
}

/// A number in a JSON string.
struct Number(f64);

impl<'de> de::Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in a string")
            }
            fn visit_str<E: de::Error>(self, s: &str) -> Result<Number, E> {
                s.parse().map(Number).map_err(|_| E::custom(format_args!("{s:?} is no number")))
            }
        }
        d.deserialize_str(Text)
    }
}

impl<'de> Visitor<'de> for Sample<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[time, \"value\"]")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let time: f64 = seq.next_element()?.ok_or_else(|| de::Error::custom("a sample without a time"))?;
        let value: Number = seq.next_element()?.ok_or_else(|| de::Error::custom("a sample without a value"))?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.0.points.push((time, value.0));
        Ok(())
    }
}

impl<'de> Visitor<'de> for Samples<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("samples")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Sample(self.0))?.is_some() {}
        Ok(())
    }
}

impl<'de> Visitor<'de> for Warnings<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("warnings")
    }
    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(warning) = seq.next_element::<String>()? {
            if self.0.warnings.len() < WARNINGS_MAX {
                self.0.warnings.push(warning);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";

    fn decoded(body: &str) -> Decoder {
        let mut decoder = Decoder::default();
        decoder.decode(200, JSON, body.as_bytes()).unwrap();
        decoder
    }

    #[test]
    fn a_vector_with_every_odd_number() {
        let d = decoded(
            r#"{"status":"success","data":{"resultType":"vector","result":[
            {"metric":{"job":"a\"b","le":"+Inf"},"value":[1700000000.781,"12"]},
            {"value":[1700000000,"NaN"],"metric":{}},
            {"metric":{"x":"é"},"value":[1,"-Inf"]}]},"infos":["PromQL info: x"],"stats":{"a":[1]}}"#,
        );
        let rows: Vec<_> = d.rows().collect();
        assert_eq!((rows[0].label("job"), rows[0].label("le"), rows[0].label("none")), ("a\"b", "+Inf", ""));
        assert_eq!(rows[0].points(), [(1_700_000_000.781, 12.0)]);
        assert!(rows[1].value().unwrap().is_nan());
        assert_eq!((rows[2].label("x"), rows[2].value()), ("é", Some(f64::NEG_INFINITY)));
        assert!(d.warnings().is_empty());
    }

    #[test]
    fn matrices_scalars_and_native_histograms() {
        let d = decoded(
            r#"{"status":"success","data":{"result":[
            {"metric":{"p":"a"},"values":[[1,"2"],[3,"4.5"]]},
            {"metric":{"p":"b"},"histograms":[[1,{"count":"3","sum":"1","buckets":[[0,"1","2","3"]]}]]}],"resultType":"matrix"}}"#,
        );
        let rows: Vec<_> = d.rows().collect();
        assert_eq!(rows[0].points(), [(1.0, 2.0), (3.0, 4.5)]);
        assert!(rows[1].histogram() && rows[1].points().is_empty());
        let scalar = decoded(r#"{"status":"success","data":{"resultType":"scalar","result":[1435781451,"7"]}}"#);
        assert_eq!(scalar.rows().next().unwrap().points(), [(1_435_781_451.0, 7.0)]);
        assert_eq!((d.result_type(), scalar.result_type()), (ResultType::Matrix, ResultType::Scalar));
        let text = decoded(r#"{"status":"success","data":{"resultType":"string","result":[1435781451,"seven"]}}"#);
        assert_eq!((text.result_type(), decoded(r#"{"status":"success"}"#).result_type()), (ResultType::Text, ResultType::Unsaid));
    }

    #[test]
    fn warnings_are_kept() {
        let body = r#"{"status":"success","warnings":["store x is down"],"data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(decoded(body).warnings(), ["store x is down"]);
    }

    #[test]
    fn the_servers_words_come_through() {
        let mut d = Decoder::default();
        let mut fault = |status: u16, body: &str| d.decode(status, "text/html", body.as_bytes()).unwrap_err();
        let parse = r#"{"status":"error","errorType":"bad_data","error":"1:6: parse error: unclosed left parenthesis"}"#;
        assert_eq!(fault(400, parse), Fault::Rejected("1:6: parse error: unclosed left parenthesis (bad_data, HTTP 400)".into()));
        let unknown = r#"{"status":"error","errorType":"too_many_requests","error":"slow down"}"#;
        assert_eq!(fault(429, unknown), Fault::Busy("slow down (too_many_requests, HTTP 429)".into()));
        let number = r#"{"status":"error","errorType":"422","error":"cannot parse","data":null}"#;
        assert!(matches!(fault(422, number), Fault::Rejected(w) if w.starts_with("cannot parse")));
        let timeout = r#"{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}"#;
        assert!(matches!(fault(503, timeout), Fault::Slow(_)));
        let page = "<html>\n <h1>503 Service Unavailable</h1></html>";
        assert_eq!(fault(503, page), Fault::Down("HTTP 503 (text/html): <html> <h1>503 Service Unavailable</h1></html>".into()));
        assert_eq!(fault(401, "Unauthorized"), Fault::Unauthorized("HTTP 401 (text/html): Unauthorized".into()));
        assert_eq!(fault(404, "404 page not found"), Fault::Body("HTTP 404 (text/html): 404 page not found".into()));
        assert_eq!(fault(200, ""), Fault::Body("HTTP 200 (text/html) without a body".into()));
        let cut = fault(200, r#"{"status":"success","data":{"result":[{"metric":{"#);
        assert!(matches!(&cut, Fault::Body(w) if w.contains("EOF while parsing") && w.contains("text/html")), "{cut}");
        assert!(matches!(fault(200, "[]"), Fault::Body(_)) && matches!(fault(200, r#"{"status":1}"#), Fault::Body(_)));
        assert!(matches!(fault(200, r#"{"status":"success"}{}"#), Fault::Body(_)), "two answers are none");
        assert!(matches!(fault(200, r#"{"status":"success","data":{"result":[{"metric":{},"value":[1,"x"]}]}}"#), Fault::Body(_)));
    }

    proptest::proptest! {
        #[test]
        fn no_body_brings_it_down(status in 100u16..600, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut d = Decoder::default();
            let _ = d.decode(status, JSON, &body);
            let whole = br#"{"status":"success","data":{"result":[{"metric":{"a":"b"},"value":[1,"2"]}]}}"#;
            let cut = body.len() * whole.len() / 200;
            let _ = d.decode(200, JSON, &whole[..cut]);
            proptest::prop_assert!(d.decode(200, JSON, whole).is_ok());
        }
    }

    #[test]
    fn buffers_of_the_answer_before_leave_nothing_behind() {
        let mut d = Decoder::default();
        d.decode(200, JSON, br#"{"status":"success","data":{"result":[{"metric":{"a":"b"},"value":[1,"2"]}]},"warnings":["w"]}"#).unwrap();
        d.decode(200, JSON, br#"{"status":"success","data":{"result":[]}}"#).unwrap();
        assert_eq!((d.rows().count(), d.warnings().len()), (0, 0));
    }
}
