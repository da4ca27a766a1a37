//! An operator: stops brokers in order, one after the other, so that they start with as many cores
//! as their next start draws (a rolling restart).

use std::time::Duration;

use trialog_engine::io::Io;

use crate::scenario::stage::Actor;

/// An operator's program. What stops is started again by the nemesis, as whatever ends is.
pub async fn perform(actor: Actor, pause: Duration) {
    let brokers = actor.stage.shape.brokers.len();
    let mut next = 0;
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let slice = Duration::from_millis(200);
        let mut rest = random.duration(pause / 2..pause);
        while rest > Duration::ZERO && !actor.stage.curtain() {
            actor.io.sleep(slice.min(rest)).await;
            rest = rest.saturating_sub(slice);
        }
        if !left_out && !actor.stage.curtain() {
            actor.io.world().say(&format!("broker {next} is asked to stop"));
            actor.stage.stop_broker(next);
        }
        next = (next + 1) % brokers;
    }
}
