//! HAProxy: absolute server weights through its runtime socket, two servers of one backend. Every command's answer is parsed
//! (nothing but a blank line is success), and the weights are read back in the same connection, one line for all of it.
//!
//! Both weights always sum to [`HaproxyServers::SUM`], so half a percent is the finest share; absolute and not `50%`, which is
//! a share of the *initial* weight. The server that gets more is told first: there is no moment in which both have 0, and in
//! between the canary has less than before and after, or as much. Weight 0 takes no new request; a session that a cookie or
//! stick table holds there stays.
//!
//! HAProxy keeps no generation, so a stale write is told from what this router wrote itself, and by the weights. After a restart
//! or reload its weights are those of its file (unless `load-server-state-from-file` keeps them): a reading shows and says it.

mod socket;
mod table;

use super::share::{parts, second_share};
use super::{Answer, Desired, Router, RouterError, canary_share, no_newer};
use crate::model::rule::{HaproxyServers, Traffic};
use crate::model::{Side, TrafficReading, Weight};
use parking_lot::Mutex;
use socket::Socket;
use table::{Server, Table};

/// `first` fills one server after the other, whatever their weights.
const IGNORES_WEIGHTS: &str = "first";

/// One HAProxy, two servers.
#[derive(Debug)]
pub struct Haproxy {
    servers: HaproxyServers,
    socket: Socket,
    last: Mutex<Option<Written>>,
    /// One write at a time: two would read each other's weights.
    writing: tokio::sync::Mutex<()>,
}

/// What this router wrote last.
#[derive(Clone, Copy, Debug)]
struct Written {
    weights: [u64; 2],
    generation: u64,
}

impl Haproxy {
    /// For the servers of a rule. Nothing is read yet.
    ///
    /// # Errors
    /// A name holds what would be another command.
    pub fn new(servers: HaproxyServers) -> Result<Self, RouterError> {
        let [first, second] = &servers.servers;
        if let Some(name) = [&servers.backend, first, second].into_iter().find(|name| !HaproxyServers::is_name(name)) {
            let why = format!("{name:?} is no name of HAProxy's: letters, digits, - _ . and :");
            return Err(RouterError::Object { what: "traffic.haproxy".to_owned(), why });
        }
        let socket = Socket::new(&servers.socket);
        Ok(Self { servers, socket, last: Mutex::default(), writing: tokio::sync::Mutex::default() })
    }

    fn question(&self) -> String {
        let backend = &self.servers.backend;
        // 6: the backend's own row and those of its servers
        format!("show servers state {backend}; show stat {backend} 6 -1")
    }

    async fn look(&self) -> Result<Table, RouterError> {
        self.parsed(&self.socket.ask(&self.question()).await?)
    }

    fn parsed(&self, answer: &str) -> Result<Table, RouterError> {
        Table::parse(answer, &self.servers.servers).map_err(|why| self.object(why))
    }

    /// Refuses a backend in which the two weights are not the share.
    fn meaningful(&self, table: &Table) -> Result<(), RouterError> {
        if table.algorithm == IGNORES_WEIGHTS {
            return Err(self.object("balance first takes no notice of weights: use roundrobin, random or leastconn"));
        }
        match table.others() {
            None => Ok(()),
            Some(others) => {
                let way_out = "set its weight to 0, or give both versions a backend of their own behind this one";
                Err(self.object(format!("{others} shares the traffic: {way_out}")))
            }
        }
    }

    async fn reading(&self, canary: Side) -> Result<TrafficReading, RouterError> {
        let table = self.look().await?;
        self.meaningful(&table)?;
        let in_force = table.pair.each_ref().map(Server::weight_in_force);
        let second = second_share(in_force).ok_or_else(|| {
            let states = table.pair.each_ref().map(Server::said);
            self.object(format!("no server takes requests ({} and {}): HAProxy answers 503 to everybody", states[0], states[1]))
        })?;
        let last = *self.last.lock();
        let ours = last.filter(|l| table.untouched() && l.weights == table.weights());
        let writer = if ours.is_some() { None } else { writer(&table, last.is_some()) };
        Ok(TrafficReading::new(canary_share(canary, second), ours.map(|l| l.generation), writer))
    }

    /// More for the canary is refused where it would not come true; less is written whatever stands there, and told then.
    async fn move_to(&self, desired: Desired) -> Result<(), RouterError> {
        let what = self.what();
        no_newer(&what, self.last.lock().map(|l| l.generation), desired.generation)?;
        let wanted = self.whole(canary_share(desired.canary, desired.weight), desired)?;
        let before = self.look().await?;
        if raises(&before, desired) {
            self.meaningful(&before)?;
            if let Some(idle) = before.idle(wanted) {
                return Err(RouterError::NotVerified { what, why: format!("{idle}; nothing was written") });
            }
        }
        let answer = self.socket.ask(&format!("{}; {}", self.commands(&before, wanted), self.question())).await?;
        let (refusal, rest) = table::refusal(&answer);
        if let Some(words) = refusal {
            return Err(RouterError::Refused { what, why: with_advice(&words) });
        }
        let after = self.parsed(rest)?;
        *self.last.lock() = Some(Written { weights: wanted, generation: desired.generation });
        self.verified(&after, wanted)?;
        self.meaningful(&after)
    }

    /// The weights to write.
    fn whole(&self, second: Weight, desired: Desired) -> Result<[u64; 2], RouterError> {
        parts(second, u64::from(HaproxyServers::SUM)).ok_or_else(|| {
            let finest = Traffic::Haproxy(self.servers.clone()).finest_permille();
            self.object(format!("{} is no multiple of 0.{finest}%, the finest share its weights can say", desired.weight))
        })
    }

    /// First the server that gets more.
    fn commands(&self, before: &Table, wanted: [u64; 2]) -> String {
        let [first, second] =
            [0, 1].map(|i| format!("set server {}/{} weight {}", self.servers.backend, self.servers.servers[i], wanted[i]));
        if wanted[1] > before.pair[1].weight { format!("{second}; {first}") } else { format!("{first}; {second}") }
    }

    fn verified(&self, after: &Table, wanted: [u64; 2]) -> Result<(), RouterError> {
        let [first, second] = after.weights();
        let why = if [first, second] != wanted {
            format!("weights {first} and {second} stand there and not {} and {}: another hand writes too", wanted[0], wanted[1])
        } else if let Some(idle) = after.idle(wanted) {
            format!("{idle}: the weights were written, and the traffic does not follow them")
        } else {
            return Ok(());
        };
        Err(RouterError::NotVerified { what: self.what(), why })
    }

    fn what(&self) -> String {
        format!("{}, backend {}", self.socket.what(), self.servers.backend)
    }

    fn object(&self, why: impl Into<String>) -> RouterError {
        RouterError::Object { what: self.what(), why: why.into() }
    }
}

impl Router for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn granularity_permille(&self) -> u16 {
        Traffic::Haproxy(self.servers.clone()).finest_permille()
    }

    fn read(&self, canary: Side) -> Answer<'_, TrafficReading> {
        Box::pin(self.reading(canary))
    }

    fn write(&self, desired: Desired) -> Answer<'_, ()> {
        Box::pin(async move {
            let _one_at_a_time = self.writing.lock().await;
            self.move_to(desired).await
        })
    }
}

/// Would the canary get more than it has? Nothing to compare with is more.
fn raises(before: &Table, desired: Desired) -> bool {
    second_share(before.pair.each_ref().map(Server::weight_in_force))
        .is_none_or(|second| desired.weight > canary_share(desired.canary, second))
}

/// Whose weights these are, if not the last ones this router wrote; `None` if they may be its own from before a restart.
fn writer(table: &Table, wrote: bool) -> Option<String> {
    let [first, second] = table.weights();
    if !table.untouched() {
        let states = table.pair.each_ref().map(Server::said);
        return Some(format!("another hand ({} and {})", states[0], states[1]));
    }
    if table.pair.iter().all(|server| server.weight == server.initial) {
        return Some(format!("HAProxy's own file, read at its start or reload (weights {first} and {second}),"));
    }
    let may_be_ours = !wrote && first + second == u64::from(HaproxyServers::SUM);
    (!may_be_ours).then(|| format!("another hand (weights {first} and {second})"))
}

/// HAProxy's words, and what an operator does about them.
fn with_advice(words: &str) -> String {
    if words.contains("Permission denied") {
        return format!("{words}: the socket needs `level admin` (stats socket ... level admin)");
    }
    if words.contains("static LB algorithm") {
        return format!("{words} (use balance roundrobin, random or leastconn, or hash-type consistent)");
    }
    words.to_owned()
}
