//! The parts: what verifying, appending, planning and recovering cost by themselves (criterion).

fn main() {}
