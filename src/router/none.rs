//! `traffic: none`: decide and tell. The wished weight is kept in memory only; another controller moves the traffic.

use super::{Answer, Desired, Router, canary_share, no_newer};
use crate::model::{Side, TrafficReading, Weight};
use parking_lot::Mutex;

/// A router that moves nothing. It reads back what was wished, so that a rollout goes through its steps; who carries the
/// wish out reads it from the API.
#[derive(Debug, Default)]
pub struct TellOnly {
    wished: Mutex<Wished>,
}

#[derive(Debug, Default)]
struct Wished {
    second: Weight,
    generation: Option<u64>,
}

impl Router for TellOnly {
    fn name(&self) -> &'static str {
        "none"
    }

    fn granularity_permille(&self) -> u16 {
        1
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        let wished = self.wished.lock();
        let reading = TrafficReading::new(canary_share(canary, wished.second), wished.generation, None);
        Box::pin(std::future::ready(Ok(reading)))
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        let mut wished = self.wished.lock();
        let allowed = no_newer("traffic: none", wished.generation, desired.generation);
        if allowed.is_ok() {
            *wished = Wished { second: canary_share(desired.canary, desired.weight), generation: Some(desired.generation) };
        }
        Box::pin(std::future::ready(allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_wish_is_read_back_for_either_side() {
        let router = TellOnly::default();
        let weight = Weight::from_permille(125).unwrap();
        router.write(Desired { canary: Side::First, weight, generation: 7 }).await.unwrap();
        let first = router.read(Side::First).await.unwrap();
        assert_eq!((first.weight, first.generation), (weight, Some(7)));
        assert_eq!(router.read(Side::Second).await.unwrap().weight, Weight::from_permille(875).unwrap());
        assert!(router.write(Desired { canary: Side::First, weight: Weight::FULL, generation: 6 }).await.is_err());
        assert_eq!(router.read(Side::First).await.unwrap().weight, weight);
    }

    #[tokio::test]
    async fn before_the_first_wish_the_second_has_nothing() {
        assert_eq!(TellOnly::default().read(Side::Second).await.unwrap().weight, Weight::ZERO);
    }
}
