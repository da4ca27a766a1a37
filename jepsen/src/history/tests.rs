//! What is documented of the file format is what is read and written.

use super::*;

fn parse(text: &str) -> Result<History, ReadError> {
    History::read(&mut text.as_bytes())
}

#[test]
fn the_documented_example_survives_a_round_trip() {
    let source = include_str!("../history.rs");
    let lines = source.lines().filter_map(|line| line.strip_prefix("//! {"));
    let text: String = lines.map(|line| format!("{{{line}\n")).collect();
    let history = parse(&text).expect("the documented example is valid");
    assert_eq!(history.events().len(), 31);
    let mut written = Vec::new();
    history.write(&mut written).expect("memory takes everything");
    assert_eq!(String::from_utf8(written).expect("JSON is UTF-8"), text);
}

#[test]
fn foreign_payloads_and_absent_offsets_are_kept_apart_from_real_ones() {
    let history = parse(concat!(
        "{\"format\":\"trialog-history\",\"version\":1}\n",
        "{\"time\":9,\"process\":1,\"type\":\"ok\",\"f\":\"poll\",\"records\":[[\"\\u0061\",0,0,-1]]}\n",
        "{\"time\":5,\"process\":1,\"type\":\"ok\",\"f\":\"send\",\"topic\":\"a\",\"value\":3,\"offset\":-1}\n",
    ))
    .expect("valid");
    let [first, second] = history.events() else { panic!("two events") };
    assert!(matches!(first.op, Op::Send { offset: None, partition: None, .. }), "sorted");
    let Op::Poll { records } = &second.op else { panic!("a poll") };
    assert_eq!(records[0].value, Value::FOREIGN);
    assert_eq!(history.name(records[0].topic), "a");
}

#[test]
fn what_is_not_a_history_is_refused_with_its_line() {
    let head = "{\"format\":\"trialog-history\",\"version\":1}\n";
    assert_eq!(parse("").expect_err("empty").line, 1);
    assert_eq!(parse("{\"format\":\"trialog-history\",\"version\":3}\n").expect_err("new").line, 1);
    assert_eq!(parse(&format!("{head}{{\"time\":1")).expect_err("torn").line, 2);
    let no_value = "{\"time\":5,\"process\":1,\"type\":\"ok\",\"f\":\"send\",\"topic\":\"a\"}\n";
    let error = parse(&format!("{head}{no_value}")).expect_err("no value");
    assert_eq!(error.to_string(), "line 2: a send without value");
}

#[test]
fn merging_orders_by_time_and_joins_topics_by_name() {
    let send = |history: &mut History, name: &str, time_ns, value| {
        let topic = history.topic(name);
        history.push(Event {
            time_ns,
            process: Process(1),
            phase: Phase::Invoke,
            op: Op::send(topic, None, value),
        });
    };
    let (mut one, mut two) = (History::new(), History::new());
    send(&mut one, "b", 1, Value(1));
    send(&mut one, "a", 5, Value(2));
    send(&mut two, "a", 3, Value(3));
    let whole = History::merge(vec![one, two]);
    let names: Vec<_> = whole
        .events()
        .iter()
        .map(|event| match event.op {
            Op::Send { topic, value, .. } => (whole.name(topic), value.0),
            _ => panic!("only sends"),
        })
        .collect();
    assert_eq!(names, [("b", 1), ("a", 3), ("a", 2)]);
}
