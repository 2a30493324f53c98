//! What a poll leaves behind after it was used: dispersion, the baseline's own level, and without history what is frozen
//! later (STATISTICS 3, 4, 7.2, 7.3).

use super::clock::{Clock, EPS_S};
use super::history::tails_of;
use super::judge::Judge;
use super::labels::Degraded;
use super::latency::{SETUP_REQUESTS, Since};
use super::metric::Test;
use super::seen::Seen;
use super::series::{Series, SeriesId, SeriesKey};
use crate::model::Buckets;

impl Judge {
    /// After use: this poll enters dispersion, the baseline's own level and, without history, what is frozen later.
    pub(super) fn remember(&mut self, clock: &Clock, seen: &Seen) {
        let (calm, hold) = (self.calm, self.labels.hold);
        let burnt_in = clock.t_s >= self.set.method.burn_in_s - EPS_S;
        let waits = self.waits_for_tails();
        for s in &mut self.series {
            let Some(x) = seen.at(s.key) else { continue };
            if s.active || waits {
                s.add(&x, calm);
            }
            if calm {
                s.own.calm.add(x.x_b, x.n_b);
            }
            if !hold {
                s.own.unheld.add(x.x_b, x.n_b);
            }
        }
        self.remember_rows(seen);
        if let (Some(x), false) = (&seen.abandoned, hold) {
            self.own_abandoned.add(x.x_b, x.n_b);
        }
        for s in self.series.iter_mut().filter(|s| !matches!(s.key, SeriesKey::Tail(_))) {
            s.burn_in(seen.at(s.key).as_ref(), burnt_in);
        }
        if burnt_in {
            self.live_setup(clock);
            self.freeze(true);
        }
    }

    pub(super) fn remember_rows(&mut self, seen: &Seen) {
        let Some(rows) = &seen.rows else { return };
        let add = |sum: &mut Buckets| sum.iter_mut().zip(&rows.baseline).for_each(|(a, b)| *a += b);
        if self.calm {
            add(&mut self.own_rows.calm);
        }
        if !self.labels.hold {
            add(&mut self.own_rows.unheld);
        }
        if self.tails.is_none() {
            add(&mut self.setup_rows);
        }
    }

    pub(super) fn waits_for_tails(&self) -> bool {
        self.tails.is_none() && self.metrics.iter().any(|m| m.latency().is_some())
    }

    /// 4, without history: zones from the live baseline, once the burn-in is over and enough was seen.
    pub(super) fn live_setup(&mut self, clock: &Clock) {
        let enough = self.setup_rows.last().is_some_and(|n| *n >= SETUP_REQUESTS);
        if !self.waits_for_tails() || !enough {
            return;
        }
        let tails = tails_of(&self.setup_rows);
        let burn_in_s = self.set.method.burn_in_s;
        // too few requests at the end of the burn-in: then time counts from the setup
        let late = clock.start_s >= burn_in_s - EPS_S;
        let since = Since { main_s: if late { clock.t_s } else { burn_in_s }, ok_s: clock.t_s, guard_s: clock.t_s };
        let (series, bounds) = (&mut self.series, &self.set.bounds);
        for m in &mut self.metrics {
            if let Test::Latency(t) = &mut m.test {
                t.set_up(bounds, &tails, since, |j| id_of(series, SeriesKey::Tail(j)));
                for b in t.frozen().map_or(&[][..], |f| &f.zone) {
                    series[b.series.0].active = true;
                }
            }
        }
        self.tails = Some(tails);
    }

    /// 7.2: `phi_0` and the levels of `degraded`, as soon as they can be known.
    pub(super) fn freeze(&mut self, burnt_in: bool) {
        for (i, s) in self.series.iter_mut().enumerate() {
            s.freeze_phi_0(burnt_in);
            let known = self.degraded.iter().any(|d| d.series == SeriesId(i) && d.metric.is_none());
            if let (Some(_), Some(p), false) = (s.phi_0, s.p_hist, known) {
                self.degraded.push(Degraded::new(None, SeriesId(i), p));
            }
        }
        for (i, m) in self.metrics.iter().enumerate() {
            let Some(f) = m.latency().and_then(|t| t.frozen()) else { continue };
            let known = self.degraded.iter().any(|d| d.metric == Some(i));
            if let (Some(tails), Some(_), false) = (&self.tails, self.series[f.series.0].phi_0, known) {
                self.degraded.push(Degraded::new(Some(i), f.series, tails[f.primary]));
            }
        }
    }
}

fn id_of(series: &[Series], key: SeriesKey) -> SeriesId {
    SeriesId(series.iter().position(|s| s.key == key).unwrap_or(0))
}
