//! Workloads: what the clients of a run do, one file for each role.
//!
//! Each is a program of steps ([`Actor::step`]): a step draws from a stream of its own and may be
//! left out. A program ends at the first step after the curtain, so that a run shows that every
//! operation of every client completes; producers first see to it that the goal is reached.

mod admin;
mod caretaker;
mod change;
mod consume;
mod haul;
mod inspect;
mod keep;
mod limited;
mod lodge;
mod member;
mod mutate;
mod operate;
mod produce;
mod puppet;
mod rebirth;
mod rush;
mod scrape;
mod seal;
mod session;
mod stranger;
mod wire;
mod zombie;

use super::shape::Role;
use super::stage::{Actor, Stage};
use crate::io::SimIo;

pub(crate) use consume::read_everything;
pub use keep::Ledgers;
pub use rebirth::REBORN;

/// The program of a client.
pub(crate) async fn perform(io: SimIo, stage: Stage) {
    let Some(actor) = Actor::new(io, stage) else { return };
    match actor.shape().role.clone() {
        Role::Producer(shape) => produce::perform(actor, shape).await,
        Role::Consumer(shape) => consume::perform(actor, shape).await,
        Role::Admin(shape) => admin::perform(actor, shape).await,
        Role::Changer(shape) => change::perform(actor, shape).await,
        Role::Zombie(shape) => zombie::perform(actor, shape).await,
        Role::Member(shape) => member::perform(actor, shape).await,
        Role::Caretaker(shape) => caretaker::perform(actor, shape).await,
        Role::Limited(shape) => limited::perform(actor, shape).await,
        Role::Lodger(shape) => lodge::perform(actor, shape).await,
        Role::Stranger(shape) => stranger::perform(actor, shape).await,
        Role::Session(shape) => session::perform(actor, shape).await,
        Role::Hauler(shape) => haul::perform(actor, shape).await,
        Role::Operator(shape) => operate::perform(actor, shape).await,
    }
}
