//! CreateTopics and DeleteTopics.

mod create;
mod delete;

pub use create::*;
pub use delete::*;
