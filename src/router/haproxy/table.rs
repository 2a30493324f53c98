//! What HAProxy answers: refusals in words, `show servers state` (weights, and who took a server out) and `show stat` (backup
//! servers, the algorithm). Columns are found by their names: every version adds some.

/// Most characters of a refusal that are shown.
const REFUSAL_MAX: usize = 300;
/// The format of `show servers state`, alone on its first line.
const STATE_FORMAT: &str = "1\n#";
/// `srv_admin_state`: maintenance by a command, by a server it tracks, because its name does not resolve.
const IN_MAINTENANCE: u32 = 0x01 | 0x02 | 0x20 | 0x40;
/// The same for drain.
const DRAINING: u32 = 0x08 | 0x10;
/// `srv_op_state`: starting slowly, or running; the others take no new requests.
const TAKES_REQUESTS: [u32; 2] = [1, 2];

/// Both servers of the rule, and what else is in their backend.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// In the order of the workloads.
    pub(super) pair: [Server; 2],
    /// The word after `balance`; empty where the socket's level hides it.
    pub(super) algorithm: String,
    rest: Vec<Server>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Server {
    name: String,
    /// In force, unless `state` says otherwise.
    pub(super) weight: u64,
    /// Of HAProxy's file.
    pub(super) initial: u64,
    state: State,
    backup: bool,
}

/// Does it take new requests?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// Its health check says so.
    Down,
    /// By command, or a server it tracks.
    Maintenance,
    Drain,
}

/// Words before the table, of a command that was not obeyed, and the rest of the answer. A command that was answers a blank line.
pub(super) fn refusal(answer: &str) -> (Option<String>, &str) {
    let at = if answer.starts_with(STATE_FORMAT) { 0 } else { answer.find(&format!("\n{STATE_FORMAT}")).map_or(answer.len(), |at| at + 1) };
    let (said, rest) = answer.split_at(at);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words: String = lines.join("; ").chars().take(REFUSAL_MAX).collect();
    ((!words.is_empty()).then_some(words), rest)
}

impl Table {
    /// # Errors
    /// In words: HAProxy's own, or what is missing.
    pub(super) fn parse(answer: &str, names: &[String; 2]) -> Result<Self, String> {
        let (refused, rest) = refusal(answer);
        if let Some(words) = refused {
            return Err(if words.starts_with("Can't find backend") { "there is no such backend".to_owned() } else { words });
        }
        let Some((states, statistics)) = rest.split_once("\n\n") else { return Err("the answer holds no table".to_owned()) };
        let statistics = Rows::parse(statistics.trim_start(), "# ", ',').ok_or("the answer holds no statistics")?;
        let mut servers = servers(states, &statistics)?;
        let mut take = |name: &String| {
            let at = servers.iter().position(|server| server.name == *name);
            at.map(|at| servers.remove(at)).ok_or_else(|| format!("has no server {name}"))
        };
        let pair = [take(&names[0])?, take(&names[1])?];
        if let Some(backup) = pair.iter().find(|server| server.backup) {
            return Err(format!("server {} is a backup: it takes requests only when all others are down", backup.name));
        }
        let algorithm = statistics.find("svname", "BACKEND").and_then(|row| statistics.get(row, "algo")).unwrap_or("").to_owned();
        Ok(Self { pair, algorithm, rest: servers })
    }

    /// As written, whatever the servers' state.
    pub(super) fn weights(&self) -> [u64; 2] {
        self.pair.each_ref().map(|server| server.weight)
    }

    /// No hand took a server out.
    pub(super) fn untouched(&self) -> bool {
        self.pair.iter().all(|server| matches!(server.state, State::Up | State::Down))
    }

    /// Servers beside the pair that have a weight; backups get nothing while the pair lives.
    pub(super) fn others(&self) -> Option<String> {
        let others: Vec<String> = self.rest.iter().filter(|s| s.weight_in_force() > 0 && !s.backup).map(Server::said).collect();
        (!others.is_empty()).then(|| others.join(", "))
    }

    /// The server that shall get requests and takes none, in words.
    pub(super) fn idle(&self, wanted: [u64; 2]) -> Option<String> {
        let idle = self.pair.iter().zip(wanted).find(|(server, weight)| *weight > 0 && server.state != State::Up);
        idle.map(|(server, _)| match server.state {
            State::Down => format!("server {} is down by its health check and gets no requests whatever its weight", server.name),
            _ => format!("{}: it gets no requests until somebody says set server ... state ready", server.said()),
        })
    }
}

impl Server {
    /// 0 for one that a hand took out. A server that its health check calls down keeps its weight: nobody moved it.
    pub(super) fn weight_in_force(&self) -> u64 {
        if matches!(self.state, State::Up | State::Down) { self.weight } else { 0 }
    }

    /// `server v2, weight 10, in maintenance`.
    pub(super) fn said(&self) -> String {
        let state = match self.state {
            State::Up => "",
            State::Down => ", down",
            State::Maintenance => ", in maintenance",
            State::Drain => ", in drain",
        };
        format!("server {} with weight {}{state}", self.name, self.weight)
    }
}

fn servers(states: &str, statistics: &Rows<'_>) -> Result<Vec<Server>, String> {
    let states = states.strip_prefix("1\n").unwrap_or(states);
    let rows = Rows::parse(states, "# ", ' ').ok_or("the answer holds no table of servers")?;
    let number = |row: &[&str], column: &str| {
        let value = rows.get(row, column).and_then(|text| text.parse::<u32>().ok());
        value.ok_or_else(|| format!("the table of servers has no number {column} in {:?}", row.join(" ")))
    };
    let mut servers = Vec::new();
    for row in &rows.rows {
        let name = rows.get(row, "srv_name").ok_or("the table of servers has no srv_name")?;
        let backup = statistics.find("svname", name).and_then(|row| statistics.get(row, "bck")) == Some("1");
        servers.push(Server {
            name: name.to_owned(),
            weight: number(row, "srv_uweight")?.into(),
            initial: number(row, "srv_iweight")?.into(),
            state: State::of(number(row, "srv_admin_state")?, number(row, "srv_op_state")?),
            backup,
        });
    }
    Ok(servers)
}

impl State {
    fn of(admin: u32, operational: u32) -> Self {
        if admin & IN_MAINTENANCE != 0 {
            State::Maintenance
        } else if admin & DRAINING != 0 {
            State::Drain
        } else if TAKES_REQUESTS.contains(&operational) {
            State::Up
        } else {
            State::Down
        }
    }
}

/// Lines of values below a line of names.
struct Rows<'a> {
    names: Vec<&'a str>,
    rows: Vec<Vec<&'a str>>,
}

impl<'a> Rows<'a> {
    fn parse(text: &'a str, mark: &str, separator: char) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let names = lines.next()?.strip_prefix(mark)?.split(separator).collect();
        Some(Self { names, rows: lines.map(|line| line.split(separator).collect()).collect() })
    }

    fn get(&self, row: &[&'a str], column: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|name| *name == column)?;
        row.get(at).copied()
    }

    fn find(&self, column: &str, value: &str) -> Option<&[&'a str]> {
        self.rows.iter().find(|row| self.get(row, column) == Some(value)).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_port";
    const STATS: &str = "# pxname,svname,status,weight,act,bck,algo,\nshop,v1,UP,1,1,0,,\nshop,v2,UP,1,1,0,,\nshop,sorry,UP,1,0,1,,\n\
                         shop,BACKEND,UP,1,1,0,roundrobin,\n\n";

    fn table(rows: &str) -> Result<Table, String> {
        Table::parse(&format!("1\n{NAMES}\n{rows}\n\n{STATS}"), &["v1".to_owned(), "v2".to_owned()])
    }

    fn row(name: &str, numbers: &str) -> String {
        format!("3 shop 1 {name} 127.0.0.1 {numbers} 80\n")
    }

    #[test]
    fn weights_and_states_are_found_by_the_names_of_their_columns() {
        let found = table(&(row("v2", "2 0 10 100") + &row("v1", "2 4 190 100"))).unwrap();
        assert_eq!((found.weights(), found.algorithm.as_str()), ([190, 10], "roundrobin"));
        assert!(found.untouched() && found.others().is_none() && found.idle([190, 10]).is_none());
        assert_eq!(found.pair[1].initial, 100);
    }

    #[test]
    fn a_server_taken_out_has_no_weight_and_one_that_is_down_keeps_it() {
        for (numbers, in_force, untouched, said) in [
            ("0 1 10 100", 0, false, "server v2 with weight 10, in maintenance: it gets no requests"),
            ("2 8 10 100", 0, false, "server v2 with weight 10, in drain: it gets no requests"),
            ("0 32 10 100", 0, false, "server v2 with weight 10, in maintenance: it gets no requests"),
            ("0 0 10 100", 10, true, "server v2 is down by its health check"),
            ("3 0 10 100", 10, true, "server v2 is down by its health check"),
        ] {
            let found = table(&(row("v1", "2 0 190 100") + &row("v2", numbers))).unwrap();
            assert_eq!((found.pair[1].weight_in_force(), found.untouched()), (in_force, untouched), "{numbers}");
            let idle = found.idle([190, 10]).unwrap();
            assert!(idle.starts_with(said), "{numbers}: {idle}");
            assert_eq!(found.idle([200, 0]), None, "{numbers}: it shall get nothing");
        }
    }

    #[test]
    fn another_server_with_weight_is_told_and_a_backup_is_not() {
        let both = row("v1", "2 0 1 1") + &row("v2", "2 0 1 1");
        assert_eq!(table(&(both.clone() + &row("sorry", "2 0 1 1"))).unwrap().others(), None);
        assert_eq!(table(&(both.clone() + &row("v3", "2 0 0 1"))).unwrap().others(), None);
        assert_eq!(table(&(both + &row("v3", "2 0 7 1"))).unwrap().others().as_deref(), Some("server v3 with weight 7"));
        let backup = Table::parse(
            &format!("1\n{NAMES}\n{}{}\n\n{STATS}", row("v1", "2 0 1 1"), row("sorry", "2 0 1 1")),
            &["v1".to_owned(), "sorry".to_owned()],
        );
        assert_eq!(backup.unwrap_err(), "server sorry is a backup: it takes requests only when all others are down");
    }

    #[test]
    fn what_is_no_table_is_said() {
        let both = row("v1", "2 0 1 1") + &row("v2", "2 0 1 1");
        for (answer, why) in [
            ("Can't find backend.\n\nNo such proxy.\n\n".to_owned(), "there is no such backend"),
            ("HTTP/1.1 400 Bad request\r\n\r\n<html>\n\n".to_owned(), "HTTP/1.1 400 Bad request; <html>"),
            (format!("1\n{NAMES}\n{both}\n\n"), "the answer holds no statistics"),
            (format!("1\n{}\n{both}\n\n{STATS}", NAMES.replace("srv_uweight", "x")), "the table of servers has no number srv_uweight in"),
            (format!("1\n{NAMES}\n{}\n\n{STATS}", both.replace("2 0 1", "2 0 ?")), "the table of servers has no number srv_uweight in"),
            (format!("1\n{NAMES}\n{}\n\n{STATS}", row("v1", "2 0 1 1")), "has no server v2"),
            ("\n\n".to_owned(), "the answer holds no table"),
            (format!("1\n{NAMES}"), "the answer holds no table"),
            ("1\n# \n\n# \n\n".to_owned(), "has no server v1"),
        ] {
            let error = Table::parse(&answer, &["v1".to_owned(), "v2".to_owned()]).unwrap_err();
            assert!(error.starts_with(why), "{answer:?}: {error}");
        }
    }

    #[test]
    fn only_blank_lines_before_the_table_are_success() {
        let rest = format!("1\n{NAMES}\n");
        assert_eq!(refusal(&format!("\n\n{rest}")), (None, rest.as_str()));
        assert_eq!(refusal(&rest), (None, rest.as_str()));
        let (said, after) = refusal("No such server.\n\nNo such server.\n\n");
        assert_eq!((said.as_deref(), after), (Some("No such server.; No such server."), ""));
        let text = format!("Permission denied\n\nPermission denied\n\n{rest}");
        assert_eq!(refusal(&text), (Some("Permission denied; Permission denied".to_owned()), rest.as_str()));
        let long = "x".repeat(1000);
        assert_eq!(refusal(&long).0.unwrap().len(), REFUSAL_MAX);
    }
}
