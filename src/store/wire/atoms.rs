//! Numbers, times, words and containers.

use crate::model::{Blind, PerArm, RolloutId, Timestamp, Weight};
use arrayvec::ArrayVec;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// A type of `model` with a place on the wire.
pub(super) trait Wire: Sized {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error>;
}

/// Borrowed, for serde.
pub(super) struct Ref<'a, T>(pub(super) &'a T);

impl<T: Wire> Serialize for Ref<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.put(to)
    }
}

/// Owned, from serde.
pub(super) struct Own<T>(pub(super) T);

impl<'de, T: Wire> Deserialize<'de> for Own<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::get(from).map(Own)
    }
}

/// For `#[serde(with = "wire")]`: a field whose type is [`Wire`].
pub(super) mod wire {
    use super::{Deserializer, Serializer, Wire};

    pub(in super::super) fn serialize<T: Wire, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        value.put(to)
    }

    pub(in super::super) fn deserialize<'de, T: Wire, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::get(from)
    }
}

/// Types of `model` described by a `remote` type here.
macro_rules! described {
    ($($model:ty as $here:ident),* $(,)?) => {$(
        impl Wire for $model {
            fn put<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $here::serialize(self, to)
            }
            fn get<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $here::deserialize(from)
            }
        }
    )*};
}
pub(super) use described;

/// Types serde knows.
macro_rules! plain {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.serialize(to)
            }
            fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::deserialize(from)
            }
        }
    )*};
}
plain!(bool, u8, u32, u64, String);

/// Up to here every whole `f64` is its integer.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

impl Wire for f64 {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let v = *self;
        if v.is_nan() {
            return to.serialize_str("nan");
        }
        if v.is_infinite() {
            return to.serialize_str(if v > 0.0 { "inf" } else { "-inf" });
        }
        // counts are whole: `12`, not `12.0`; minus zero keeps its sign as a float
        if v.fract() == 0.0 && v.abs() <= WHOLE_MAX && !(v == 0.0 && v.is_sign_negative()) {
            return to.serialize_i64(v as i64);
        }
        to.serialize_f64(v)
    }

    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Number)
    }
}

struct Number;

impl Visitor<'_> for Number {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, \"nan\", \"inf\" or \"-inf\"")
    }

    fn visit_f64<E>(self, v: f64) -> Result<f64, E> {
        Ok(v)
    }

    fn visit_i64<E>(self, v: i64) -> Result<f64, E> {
        Ok(v as f64)
    }

    fn visit_u64<E>(self, v: u64) -> Result<f64, E> {
        Ok(v as f64)
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<f64, E> {
        match v {
            "nan" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(de::Unexpected::Str(v), &self)),
        }
    }
}

impl Wire for Timestamp {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_millis().serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        i64::deserialize(from).map(Self::from_millis)
    }
}

impl Wire for Weight {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.permille().serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::from_permille(u16::deserialize(from)?).map_err(de::Error::custom)
    }
}

impl Wire for RolloutId {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self)
    }
}

impl Wire for Blind {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = String::deserialize(from)?;
        Self::ALL.into_iter().find(|b| b.name() == word).ok_or_else(|| de::Error::custom(format!("{word:?} is no kind of blindness")))
    }
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Span {
    Millis(u64),
    Text(String),
}

impl Wire for Duration {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.as_millis()) {
            Ok(ms) if self.subsec_nanos().is_multiple_of(1_000_000) => to.serialize_u64(ms),
            _ => to.serialize_str(&format!("{}.{:09} s", self.as_secs(), self.subsec_nanos())),
        }
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Span::deserialize(from)? {
            Span::Millis(ms) => Ok(Self::from_millis(ms)),
            Span::Text(text) => span(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no duration"))),
        }
    }
}

fn span(text: &str) -> Option<Duration> {
    let (seconds, nanos) = text.strip_suffix(" s")?.split_once('.')?;
    let nanos: u32 = nanos.parse().ok()?;
    (nanos < 1_000_000_000).then_some(Duration::new(seconds.parse().ok()?, nanos))
}

impl<T: Wire> Wire for Option<T> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(Ref).serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::<Own<T>>::deserialize(from)?.map(|v| v.0))
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        (**self).put(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::get(from).map(Box::new)
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(Ref))
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Vec::<Own<T>>::deserialize(from)?.into_iter().map(|v| v.0).collect())
    }
}

/// At most `N`, whatever the text says.
pub(super) fn get_list<'de, T: Wire, const N: usize, D: Deserializer<'de>>(from: D) -> Result<ArrayVec<T, N>, D::Error> {
    from.deserialize_seq(UpTo(PhantomData))
}

struct UpTo<T, const N: usize>(PhantomData<T>);

impl<'de, T: Wire, const N: usize> Visitor<'de> for UpTo<T, N> {
    type Value = ArrayVec<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N}")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = ArrayVec::new();
        while let Some(Own(item)) = seq.next_element()? {
            list.try_push(item).map_err(|_| de::Error::invalid_length(N + 1, &self))?;
        }
        Ok(list)
    }
}

#[derive(serde::Serialize)]
struct ArmsOut<B> {
    baseline: B,
    canary: B,
}

#[derive(serde::Deserialize)]
struct ArmsIn<T> {
    baseline: T,
    canary: T,
}

impl<T: Wire> Wire for PerArm<T> {
    fn put<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        ArmsOut { baseline: Ref(&self.baseline), canary: Ref(&self.canary) }.serialize(to)
    }
    fn get<'de, D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let arms = ArmsIn::<Own<T>>::deserialize(from)?;
        Ok(Self { baseline: arms.baseline.0, canary: arms.canary.0 })
    }
}
