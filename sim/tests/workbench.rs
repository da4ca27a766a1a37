//! The workbench as its users have it: the program, its exit codes, and the page of a failure.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;
use trialog_jepsen::check::{self, Expect, call_kind};
use trialog_jepsen::history::{Op, Phase};
use trialog_sim::invariant::Sighting;
use trialog_sim::outcome::Outcome;
use trialog_sim::plan::Kind;
use trialog_sim::report::{self, Data};
use trialog_sim::scenario::{self, BrokerDisk, Failed, Failure, Run, Size, Watch};

fn sim(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_trialog-sim");
    Command::new(program).args(arguments).output().expect("it was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_sweep_prints_its_totals_as_text_and_as_json() {
    let plain = sim(&["run", "--seeds", "3", "--from", "10", "--size", "small"]);
    assert_eq!(plain.status.code(), Some(0), "{}", text(&plain.stderr));
    assert!(text(&plain.stdout).starts_with("3 seeds, 3 passed, 0 failed, 1 run twice"));
    let json = sim(&["run", "--seeds", "4", "--shard", "2/2", "--size", "small", "--json"]);
    let totals: Json = serde_json::from_slice(&json.stdout).expect("json and nothing else");
    assert_eq!((&totals["passed"], &totals["twice"]), (&Json::from(2), &Json::from(0)));
    assert!(totals["acknowledged_min"].as_u64().expect("a number") >= 200);
}

/// Machines that share a sweep say together what one says that runs it all.
#[test]
fn tallies_of_the_parts_of_a_sweep_add_up_to_it() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tallies");
    std::fs::create_dir_all(&folder).expect("room");
    let file = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    let sweep = ["run", "--seeds", "5", "--from", "17", "--size", "small", "--coverage"];
    let whole = sim(&sweep);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole.stderr));
    let parts = [1, 2].map(|part| {
        let (shard, file) = (format!("{part}/2"), file(&format!("{part}.json")));
        let part = sim(&[&sweep[..], &["--shard", &shard, "--tally", &file]].concat());
        assert_eq!(part.status.code(), Some(0), "{}", text(&part.stderr));
        file
    });
    let sum = sim(&["sum", "--coverage", &parts[1], &parts[0]]);
    assert_eq!(sum.status.code(), Some(0), "{}", text(&sum.stderr));
    let told = |output: &Output| {
        let lines = text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
        // But for two lines that tell how long it took.
        [&lines[..1], &lines[3..]].concat()
    };
    assert!(told(&whole)[0].starts_with("5 seeds, 5 passed"), "{:?}", told(&whole));
    assert_eq!(told(&sum), told(&whole));

    let alone = sim(&["sum", &parts[1]]);
    assert_eq!(alone.status.code(), Some(1));
    let missing = "parts are missing: 1/2 of the 5 seeds from 17";
    assert!(text(&alone.stderr).contains(missing), "{}", text(&alone.stderr));
    let twice = sim(&["sum", &parts[0], &parts[0]]);
    assert_eq!(twice.status.code(), Some(1));
    assert!(text(&twice.stderr).contains("is in two tallies"), "{}", text(&twice.stderr));
    // What failed anywhere has failed, whatever is missing besides.
    let tally = std::fs::read(&parts[0]).expect("it was written");
    let mut tally: Json = serde_json::from_slice(&tally).expect("json");
    let stuck = Outcome::silent(&Run::new(19, Size::Small), Failed::Liveness, "stuck".to_owned());
    tally["totals"]["failures"] = serde_json::to_value([&stuck]).expect("plain data");
    let worse = file("worse.json");
    std::fs::write(&worse, tally.to_string()).expect("room");
    let sum = sim(&["sum", &worse]);
    assert_eq!(sum.status.code(), Some(11), "{}", text(&sum.stderr));
    assert!(text(&sum.stderr).contains(&stuck.command), "{}", text(&sum.stderr));
    std::fs::remove_dir_all(&folder).expect("ours");
}

/// Two small seeds do not reach everything.
#[test]
fn a_sweep_that_does_not_reach_what_is_demanded_fails_by_a_code_of_its_own() {
    let sweep = ["run", "--seeds", "2", "--from", "20", "--size", "small", "--coverage"];
    assert_eq!(sim(&sweep).status.code(), Some(0));
    let demanding = sim(&[&sweep[..], &["--demand"]].concat());
    assert_eq!(demanding.status.code(), Some(16), "{}", text(&demanding.stderr));
    let said = text(&demanding.stderr);
    for what in ["faults that never fired: ", "rare paths never taken: ", "pairs of faults in one"]
    {
        assert!(said.contains(&format!("demanded, and not reached: {what}")), "{said}");
    }
}

/// A sweep that is to end, told to the parent alone or, as a terminal does, to its workers as well.
#[test]
fn a_sweep_that_is_told_to_end_says_what_it_has_done() {
    // A process in the background of a script ignores SIGINT, and so do those that it starts.
    let interrupts = !ignores_sigint();
    let told = [("-TERM", true), ("-TERM", false), ("-INT", true), ("-INT", false)];
    for (signal, alone) in told.into_iter().filter(|(signal, _)| *signal == "-TERM" || interrupts) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trialog-sim"));
        command.args(["run", "--seeds", "100000", "--size", "small", "--jobs", "2", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut sweep = command.spawn().expect("it was built");
        let mut progress = BufReader::new(sweep.stderr.take().expect("just piped"));
        let mut line = String::new();
        progress.read_line(&mut line).expect("read");
        assert!(line.contains("/100000 seeds"), "{line}");
        let whom = if alone { sweep.id().to_string() } else { format!("-{}", sweep.id()) };
        let told = Command::new("kill").args([signal, "--", &whom]).status().expect("it is there");
        assert!(told.success());
        let mut rest = String::new();
        progress.read_to_string(&mut rest).expect("read");
        let output = sweep.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{rest}");
        let totals: Json = serde_json::from_slice(&output.stdout).expect("json and nothing else");
        assert_eq!(totals["interrupted"], true);
        assert!(totals["passed"].as_u64().expect("a number") >= 1, "{totals}");
        assert_eq!(totals["failures"], Json::Array(Vec::new()));
    }
}

fn ignores_sigint() -> bool {
    const SIGINT: u32 = 2;
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    let mask = u64::from_str_radix(mask.trim(), 16).expect("a hexadecimal number");
    mask & (1 << (SIGINT - 1)) != 0
}

#[test]
fn a_replay_says_the_hash_and_that_it_is_the_same_in_another_process() {
    let once = sim(&["replay", "3", "--size", "small", "--once", "--trace"]);
    let twice = sim(&["replay", "3", "--size", "small"]);
    let first_line = |output: &Output| text(&output.stdout).lines().next().map(str::to_owned);
    assert_eq!(first_line(&once), first_line(&twice));
    assert!(first_line(&once).expect("a line").starts_with("seed 3 passed: "));
    assert!(text(&twice.stdout).contains("went the same way"));
    assert!(text(&once.stderr).lines().count() > 1000, "every event is printed");
    let cut = sim(&["replay", "3", "--size", "small", "--without", "faults=0/clients=1"]);
    assert_ne!(first_line(&cut), first_line(&once));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for wrong in [
        &["run", "--shard", "3/2"][..],
        &["replay", "3", "--without", "fish=1"],
        &["replay", "x"],
        &["run", "--time-limit", "5 minutes"],
        &["run", "--demand"],
    ] {
        assert_eq!(sim(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let passes = sim(&["shrink", "3", "--size", "small"]);
    assert_eq!(passes.status.code(), Some(1));
    assert!(text(&passes.stderr).contains("nothing to shrink"));
}

/// Of a run on a disk that lies about its flushes, most has nothing to do with its failing. How
/// much can be left out is tested where no time passes; here, that the command still fails.
#[test]
fn a_failure_shrinks_to_a_command_that_still_fails() {
    // A run in which clients wait to the end would take too much of the shrinking's time.
    let lying = |seed: &u64| {
        let outcome =
            sim(&["replay", &seed.to_string(), "--size", "small", "--lying-disk", "--once"]);
        outcome.status.code() == Some(10) && !text(&outcome.stdout).contains("stuck")
    };
    let seed = (0..40).find(lying).expect("many seeds fail").to_string();
    let shrunk = sim(&["shrink", &seed, "--size", "small", "--lying-disk", "--time-limit", "15s"]);
    let said = text(&shrunk.stdout);
    let fewer = said.split(" % fewer").next().and_then(|head| head.rsplit('(').next());
    let fewer: f64 = fewer.and_then(|number| number.parse().ok()).expect("how many fewer");
    assert!(fewer >= 50.0, "{said}");
    let command = said.lines().last().expect("the command").trim();
    let arguments = command.strip_prefix("cargo sim ").expect("it is one of ours");
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let again = sim(&arguments);
    assert_eq!(again.status.code(), shrunk.status.code(), "{said}\n{}", text(&again.stdout));
}

/// A run that lost a record, or so its history says: nobody ever read the one that was
/// acknowledged last.
fn lossy() -> Failure {
    let run = Run { watch: Watch::Tape, ..Run::new(4, Size::Small) };
    let mut facts = scenario::run(&run).expect("passes").facts;
    let history = facts.history.take().expect("taped");
    let is_sent = |op: &Op| matches!(op, Op::Send { offset: Some(_), .. });
    let last = history.events().iter().rposition(|event| is_sent(&event.op)).expect("one");
    let Op::Send { value: lost, .. } = history.events()[last].op else { unreachable!() };
    let mut told = history.named_alike();
    for event in history.events() {
        let mut event = event.clone();
        if let Op::Poll { records } = &mut event.op {
            records.retain(|record| record.value != lost);
        }
        told.push(event);
    }
    let found = check::all(&told, &Expect::default());
    assert!(!found.clean());
    let text = found.to_string();
    let found_by = found.anomalies().map(|(anomaly, _)| anomaly.to_string()).collect();
    (facts.findings, facts.history) = (found.findings, Some(told));
    Failure { how: Failed::Safety, found_by, text, facts }
}

#[test]
fn the_page_of_a_failure_marks_the_first_bad_event() {
    let data = Data::of(&Err(lossy()));
    let bad = data.bad.as_ref().expect("something is wrong");
    let operation = &data.operations[bad.operation.expect("an operation proves it")];
    assert!(operation.0 <= bad.at && bad.at <= data.end);
    let (_, sentence, witnesses) = &data.findings[bad.finding.expect("a finding")];
    assert!(witnesses.contains(&bad.operation.expect("seen")), "{sentence}");
    // What the page is given is what stands in it.
    let page = report::page(&data);
    let json = page.split(r#"<script id="data" type="application/json">"#).nth(1);
    let json = json.and_then(|rest| rest.split("</script>").next()).expect("the data");
    let shown: Json = serde_json::from_str(json).expect("json");
    assert_eq!(shown["bad"]["operation"], bad.operation.expect("seen"));
    assert_eq!(shown["how"], "safety");
    // And the rest of the run is there: machines, their lives, messages with names, disks, offsets.
    assert!(data.machines.len() >= 3, "{:?}", data.machines);
    assert!(data.lives.iter().any(|life| matches!(life.3, "kill" | "power loss")));
    let asked = |what: &str| data.labels.iter().any(|label| label.starts_with(what));
    assert!(asked("Produce v") && asked("Fetch answer v"), "{:?}", data.labels);
    let (sent, arrived, from, to, ..) = data.messages[data.messages.len() / 2];
    assert!(sent < arrived && from != to, "{sent} {arrived} {from} {to}");
    assert!(!data.faults.is_empty() && data.healed > 0.0);
    assert!(data.disks.iter().any(|disk| disk.3 > 0), "something is dirty at some time");
    assert!(!data.marks.is_empty() && !data.ends.is_empty() && !data.reads.is_empty());
}

/// On a disk that lies about its flushes, the invariants see in the middle of a run what no history
/// shows before its end.
#[test]
fn the_page_of_a_broken_invariant_marks_when_it_was_seen() {
    let run = |seed| Run { watch: Watch::Tape, ..Run::new(seed, Size::Small) };
    let fails = |seed| scenario::run_on(BrokerDisk::Lying, &run(seed)).err();
    let seen = |failure: &Failure| !failure.facts.sightings.is_empty();
    let mut failure = (0..40).filter_map(fails).find(seen).expect("many seeds fail");
    failure.facts.findings.clear();
    let sightings = &failure.facts.sightings;
    assert!(sightings.is_sorted_by_key(|sighting| sighting.at));
    let Sighting { at, machine, found_by, text } = sightings[0].clone();
    assert!(failure.found_by.iter().any(|by| by == found_by), "{found_by}: {text}");
    let data = Data::of(&Err(failure));
    let bad = data.bad.as_ref().expect("something is wrong");
    assert!(bad.at == at as f64 / 1e6 && bad.at < data.end, "{} of {}", bad.at, data.end);
    assert_eq!((bad.machine, bad.operation, bad.finding), (machine, None, None));
    assert_eq!(bad.text, format!("{found_by}: {text}"));
    assert_eq!((&data.sightings[0].2, &data.sightings[0].3), (&found_by.to_owned(), &text));
}

#[test]
fn the_page_joins_every_call_with_its_answer_and_shows_faults_while_they_are_at_work() {
    let (mut joined, mut idle) = ([0; 2], 0);
    for seed in 0..6 {
        let run = Run { watch: Watch::Tape, ..Run::new(seed, Size::Small) };
        let passed = scenario::run(&run).expect("passes");
        let history = passed.facts.history.clone().expect("taped");
        let planned = passed.facts.plan.faults.len();
        let data = Data::of(&Ok(passed));
        for (from, to, _, phase, text, events) in &data.operations {
            let first = &history.events()[events[0]];
            let is_send = matches!(first.op, Op::Send { .. });
            if !is_send && call_kind(&first.op).is_none() {
                assert!(from == to && events.len() == 1, "{text}");
                continue;
            }
            assert_eq!(first.phase, Phase::Invoke, "an answer to nothing: {text}");
            match &events[1..] {
                [] => assert!(*to < 0.0 && phase.is_empty(), "{text}"),
                [last] => {
                    joined[usize::from(is_send)] += 1;
                    assert_eq!(history.events()[*last].process, first.process, "{text}");
                    assert!(to >= from && !phase.is_empty(), "{text}");
                }
                _ => panic!("answered twice: {text}"),
            }
        }
        assert_eq!(data.faults.len(), planned, "every fault came");
        let heals = |kind: &str| {
            let stay = ["Clock", "Monotonic", "Dead", "Half", "Reset"];
            let for_good = Kind::ALL.into_iter().filter(|kind| kind.is_for_good());
            !stay.iter().any(|it| kind.starts_with(it))
                && !for_good.into_iter().any(|it| it.to_string() == kind)
        };
        for (from, to, kind, text, ..) in data.faults.iter().filter(|row| heals(&row.2)) {
            assert!(from <= to && *to <= data.healed, "{kind} from {from} to {to}: {text}");
        }
        idle += data.faults.iter().filter(|row| !row.5).count();
        let struck = data.faults.iter().filter(|row| row.5).count();
        assert!(struck >= 2, "seed {seed} crashes brokers");
    }
    assert!(joined.into_iter().all(|count| count > 100), "calls and sends: {joined:?}");
    assert!(idle > 0, "some fault never met anything");
}
