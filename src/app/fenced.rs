//! A router of a daemon that acts by a lease: it writes nothing once that may be another's, whatever it writes to.

use crate::cluster::lease::Fence;
use crate::model::{Noted, Side, TrafficReading, Weight};
use crate::router::{Answer, Desired, Router, RouterError};
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug)]
struct Fenced {
    router: Arc<dyn Router>,
    fence: Arc<Fence>,
}

/// This router, behind the fence where there is one.
pub(super) fn fenced(router: Arc<dyn Router>, fence: Option<&Arc<Fence>>) -> Arc<dyn Router> {
    match fence {
        None => router,
        Some(fence) => Arc::new(Fenced { router, fence: Arc::clone(fence) }),
    }
}

impl Fenced {
    fn may_write(&self) -> Result<(), RouterError> {
        self.fence.check().map_err(|why| RouterError::Denied { what: self.router.name().to_owned(), why })
    }
}

// every method: what is forgotten here would be the trait's default, which does nothing
impl Router for Fenced {
    fn name(&self) -> &'static str {
        self.router.name()
    }

    fn granularity_permille(&self) -> u16 {
        self.router.granularity_permille()
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        self.router.read(canary)
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            self.may_write()?;
            self.router.write(desired).await
        })
    }

    fn begins(&self, noted: &Noted) {
        self.router.begins(noted);
    }

    fn hold_still<'a>(&'a self, noted: &'a Noted) -> Answer<'a, ()> {
        Box::pin(async move {
            self.may_write()?;
            self.router.hold_still(noted).await
        })
    }

    fn let_go(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.may_write()?;
            self.router.let_go().await
        })
    }

    fn foretell<'a>(&'a self, weights: &'a [Weight]) -> Answer<'a, Vec<String>> {
        self.router.foretell(weights)
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        self.router.changed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::time::Instant;

    /// Notes what it is asked.
    #[derive(Debug, Default)]
    struct Asked(Mutex<Vec<&'static str>>, Mutex<Option<watch::Sender<u64>>>);

    impl Asked {
        fn note<T: Send + 'static>(&self, what: &'static str, answer: T) -> Answer<'static, T> {
            self.0.lock().push(what);
            Box::pin(std::future::ready(Ok(answer)))
        }
    }

    impl Router for Asked {
        fn name(&self) -> &'static str {
            "asked"
        }

        fn granularity_permille(&self) -> u16 {
            7
        }

        fn read(&self, _: Side) -> Answer<'_, TrafficReading> {
            self.note("read", TrafficReading::new(Weight::ZERO, None, None))
        }

        fn write(&self, _: Desired) -> Answer<'_, ()> {
            self.note("write", ())
        }

        fn begins(&self, _: &Noted) {
            self.0.lock().push("begins");
        }

        fn hold_still<'a>(&'a self, _: &'a Noted) -> Answer<'a, ()> {
            self.note("hold_still", ())
        }

        fn let_go(&self) -> Answer<'_, ()> {
            self.note("let_go", ())
        }

        fn foretell<'a>(&'a self, _: &'a [Weight]) -> Answer<'a, Vec<String>> {
            self.note("foretell", vec!["it".to_owned()])
        }

        fn changed(&self) -> Option<watch::Receiver<u64>> {
            let (tell, changed) = watch::channel(0);
            *self.1.lock() = Some(tell);
            Some(changed)
        }
    }

    #[tokio::test]
    async fn all_it_is_asked_reaches_the_router_and_no_write_once_the_lease_is_lost() {
        let (asked, fence) = (Arc::new(Asked::default()), Arc::new(Fence::new(Instant::now())));
        let router = fenced(Arc::<Asked>::clone(&asked), Some(&fence));
        let desired = Desired { canary: Side::Second, weight: Weight::ZERO, generation: 1 };
        let noted = Noted::default();
        assert_eq!((router.name(), router.granularity_permille(), router.changed().is_some()), ("asked", 7, true));
        router.begins(&noted);
        router.hold_still(&noted).await.unwrap();
        router.let_go().await.unwrap();
        assert_eq!(router.foretell(&[]).await.unwrap(), ["it"]);
        router.write(desired).await.unwrap();
        router.read(Side::Second).await.unwrap();
        assert_eq!(std::mem::take(&mut *asked.0.lock()), ["begins", "hold_still", "let_go", "foretell", "write", "read"]);

        fence.close();
        for refused in [router.hold_still(&noted).await, router.let_go().await, router.write(desired).await] {
            assert!(refused.unwrap_err().to_string().contains("the lease is lost"));
        }
        router.read(Side::Second).await.unwrap();
        assert_eq!(*asked.0.lock(), ["read"]);
    }
}
