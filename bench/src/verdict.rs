//! Rows that are held to a bar in their own unit, and those that have a floor of the same run.

/// Prints the head of the table.
pub fn print_head() {
    println!("{:52} {:>10} {:>10} {:>8}", "row", "floor", "trialog", "bar");
}

/// Prints one row and says whether it is met.
pub struct Row<'a>(pub &'a str);

impl Row<'_> {
    /// Against a bar in its own unit.
    #[must_use]
    pub fn judge(self, found: f64, bar: f64) -> bool {
        let met = found <= bar;
        let word = if met { "met" } else { "MISSED" };
        println!("{:52} {:>10} {found:>10.2} {bar:>8.2} {word}", self.0, "");
        met
    }

    /// Against a floor of the same run.
    #[must_use]
    pub fn ratio(self, floor: f64, found: f64, bar: f64) -> bool {
        let ratio = found / floor;
        let met = ratio <= bar;
        let word = if met { "met" } else { "MISSED" };
        println!("{:52} {floor:>10.2} {found:>10.2} {bar:>8.2} {ratio:.2} {word}", self.0);
        met
    }
}
