//! The topics that the members of a generation read, in one piece of memory: members may name very many,
//! and short ones, and are not to take many times what they said.

/// Names of topics.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Topics {
    /// The names in order, one behind the other.
    names: String,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Topics {
    /// These, each once.
    pub fn of(mut names: Vec<&str>) -> Topics {
        names.sort_unstable();
        names.dedup();
        let mut topics = Topics::default();
        for name in names {
            topics.names.push_str(name);
            topics.ends.push(u32::try_from(topics.names.len()).expect("less than members may say"));
        }
        topics.names.shrink_to_fit();
        topics.ends.shrink_to_fit();
        topics
    }

    /// Whether the topic is among them.
    pub fn contains(&self, name: &str) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.name(middle).cmp(name) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return true,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        false
    }

    fn name(&self, number: usize) -> &str {
        let from = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.names[from..self.ends[number] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_as_they_were_given() {
        let topics = Topics::of(vec!["orders", "", "a", "orders", "ordersX", "ö"]);
        assert_eq!(topics.ends.len(), 5);
        for name in ["orders", "", "a", "ordersX", "ö"] {
            assert!(topics.contains(name), "{name}");
        }
        for name in ["order", "b", "ordersXa", "o"] {
            assert!(!topics.contains(name), "{name}");
        }
        assert!(!Topics::of(Vec::new()).contains(""));
    }
}
