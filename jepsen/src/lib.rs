//! The judge: what clients did and saw (`history`), and whether that is allowed (`check`).
//!
//! The library knows neither the simulator nor processes; both write the same histories and both
//! are judged here. The program beside it (`trialog-jepsen`) starts real brokers, breaks them, and
//! hands what real clients saw to this library.

pub mod check;
pub mod history;
pub mod scale;
