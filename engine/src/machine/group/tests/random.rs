//! Random clients and crashes against one group: GROUP-1, GROUP-3 and GROUP-4, and that all come
//! together in the end.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What one of several random clients does next.
#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Commit(usize),
    /// The client starts again and remembers nothing.
    Restart(usize),
    Pass(u64),
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0..4_usize;
    prop_oneof![
        6 => who.clone().prop_map(Step::Join),
        6 => who.clone().prop_map(Step::Sync),
        4 => who.clone().prop_map(Step::Beat),
        1 => who.clone().prop_map(Step::Leave),
        4 => who.clone().prop_map(Step::Commit),
        1 => who.prop_map(Step::Restart),
        3 => (1..4_000_u64).prop_map(Step::Pass),
        1 => (4_000..90_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Crash),
    ]
}

/// A client as naive as can be: it does what the last answer says.
#[derive(Clone, Default)]
struct Client {
    id: String,
    generation: i32,
    /// Who is to be given a share, if it leads.
    lead: Option<Vec<String>>,
    join: Option<Ticket>,
    sync: Option<Ticket>,
    settled: bool,
}

struct Trial {
    desk: Desk,
    clients: Vec<Client>,
    /// GROUP-1: the share of each member in each generation, as anybody was told.
    shares: BTreeMap<(i32, String), Vec<u8>>,
    committed: Option<i64>,
    next_offset: i64,
    syncs: u32,
}

impl Trial {
    fn who(&self, number: usize) -> Who {
        // Half of the clients are static.
        let instance = [None, None, Some("two"), Some("three")][number];
        Who { id: self.clients[number].id.clone(), instance, ..somebody() }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join(number) => {
                if self.clients[number].join.is_none() {
                    let who = self.who(number);
                    self.clients[number].sync = None;
                    self.clients[number].settled = false;
                    let ticket = self.desk.join(&who);
                    self.clients[number].join = Some(ticket);
                }
            }
            Step::Sync(number) => {
                let client = self.clients[number].clone();
                if client.join.is_none() && client.sync.is_none() && client.generation > 0 {
                    self.syncs += 1;
                    let share = |id: &String| (id.clone(), format!("{id} {}", self.syncs));
                    let shares: Vec<_> = client.lead.iter().flatten().map(share).collect();
                    let shares: Vec<_> =
                        shares.iter().map(|(id, share)| (&**id, share.as_bytes())).collect();
                    let ticket = self.desk.sync(&client.id, client.generation, &shares);
                    self.clients[number].sync = Some(ticket);
                }
            }
            Step::Beat(number) => {
                let client = self.clients[number].clone();
                if client.generation > 0 && client.join.is_none() {
                    let code = self.desk.beat(&client.id, client.generation);
                    self.heed(number, code);
                }
            }
            Step::Leave(number) => {
                let client = std::mem::take(&mut self.clients[number]);
                if !client.id.is_empty() {
                    self.desk.leave(&client.id, None);
                }
            }
            Step::Commit(number) => {
                let client = self.clients[number].clone();
                if client.settled {
                    self.next_offset += 1;
                    let offset = self.next_offset;
                    let code = self.desk.commit(&client.id, client.generation, offset);
                    if code == ErrorCode::None {
                        self.committed = Some(offset);
                    }
                    self.heed(number, code);
                }
            }
            Step::Restart(number) => self.clients[number] = Client::default(),
            Step::Pass(ms) => self.desk.pass(ms),
            Step::Crash => {
                self.desk.crash();
                // All connections broke: whoever waited asks again.
                for client in &mut self.clients {
                    client.join = None;
                    client.sync = None;
                }
            }
        }
        self.listen();
        assert_eq!(self.desk.committed(), self.committed, "no commit is lost, none goes back");
    }

    /// What a client does upon a code.
    fn heed(&mut self, number: usize, code: ErrorCode) {
        let client = &mut self.clients[number];
        match code {
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => {
                *client = Client::default();
            }
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => {
                client.generation = 0;
                client.settled = false;
            }
            _ => {}
        }
    }

    fn listen(&mut self) {
        for number in 0..self.clients.len() {
            let client = self.clients[number].clone();
            if let Some(reply) = client.join.and_then(|ticket| self.desk.answers.remove(&ticket)) {
                let Reply::Joined(joined) = reply else { panic!("{reply:?}") };
                let client = &mut self.clients[number];
                client.join = None;
                match ErrorCode::from_code(joined.error_code).expect("a code") {
                    ErrorCode::None => {
                        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
                        let ids = joined.members.into_iter().map(|one| one.member_id);
                        client.lead = leads.then(|| ids.collect());
                        client.id = joined.member_id;
                        client.generation = joined.generation_id;
                    }
                    ErrorCode::MemberIdRequired => client.id = joined.member_id,
                    code => self.heed(number, code),
                }
            }
            if let Some(reply) = client.sync.and_then(|ticket| self.desk.answers.remove(&ticket)) {
                let Reply::Synced(synced) = reply else { panic!("{reply:?}") };
                self.clients[number].sync = None;
                let code = ErrorCode::from_code(synced.error_code).expect("a code");
                if code != ErrorCode::None {
                    self.heed(number, code);
                    continue;
                }
                assert!(!synced.assignment.is_empty(), "a live member always has a share");
                let key = (client.generation, client.id.clone());
                let told = self.shares.entry(key).or_insert_with(|| synced.assignment.clone());
                assert_eq!(*told, synced.assignment, "GROUP-1: one share in one generation");
                self.clients[number].settled = true;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn random_clients_and_crashes(steps in proptest::collection::vec(any_step(), 1..120)) {
        let mut trial = Trial {
            desk: Desk::new(),
            clients: vec![Client::default(); 4],
            shares: BTreeMap::new(),
            committed: None,
            next_offset: 0,
            syncs: 0,
        };
        for step in &steps {
            trial.step(step);
        }
        // GROUP-4: with time alone everybody is answered in the end.
        trial.desk.pass(20 * 60_000);
        prop_assert!(trial.desk.open.is_empty(), "{:?} wait for ever", trial.desk.open);
        trial.desk.crash();
        prop_assert_eq!(trial.desk.committed(), trial.committed);
        // All who act as they should come together in the end.
        for client in &mut trial.clients {
            *client = Client::default();
        }
        for _ in 0..40 {
            for number in 0..4 {
                for step in [Step::Join(number), Step::Sync(number), Step::Beat(number)] {
                    let client = &trial.clients[number];
                    let redundant = matches!(step, Step::Join(_) | Step::Sync(_)) && client.settled
                        || matches!(step, Step::Join(_)) && client.generation > 0;
                    if !redundant {
                        trial.step(&step);
                    }
                }
            }
            trial.step(&Step::Pass(2_000));
        }
        prop_assert_eq!(trial.desk.state(), "Stable");
        prop_assert!(trial.clients.iter().all(|client| client.settled));
    }
}
