//! What values a setting takes, and how they read as text.

use std::fmt;

use crate::limit::CONFIG_VALUE_BYTES_MAX;

/// A kind of value with its range. Shown, it completes "it takes ...".
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number that Kafka keeps in 32 bits, both ends included.
    Int(i32, i32),
    /// A whole number that Kafka keeps in 64 bits, both ends included.
    Long(i64, i64),
    /// A decimal fraction, both ends included.
    Ratio(f64, f64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any of these words, separated by commas; nothing for none.
    SomeOf(&'static [&'static str]),
    /// A path of a folder.
    Folder,
    /// One or more addresses, `NAME://host:port`, separated by commas.
    Listeners,
    /// One address, `host:port`, or `off`.
    AddressOrOff,
    /// Numbers by address, `address:number`, separated by commas.
    AddressLimits,
}

impl Kind {
    /// Whether `value` is one of its values. Spaces around a value do not count.
    #[must_use]
    pub fn takes(&self, value: &str) -> bool {
        let value = value.trim();
        if value.len() > CONFIG_VALUE_BYTES_MAX {
            return false;
        }
        match *self {
            Kind::Bool => boolean(value).is_some(),
            Kind::Int(min, max) => value.parse().is_ok_and(|n: i32| (min..=max).contains(&n)),
            Kind::Long(min, max) => value.parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
            Kind::Ratio(min, max) => value.parse().is_ok_and(|n: f64| (min..=max).contains(&n)),
            Kind::OneOf(words) => words.contains(&value),
            Kind::SomeOf(words) => {
                value.is_empty() || list(value).all(|word| words.contains(&word))
            }
            Kind::Folder => !value.is_empty() && !value.contains([',', '\0']),
            Kind::Listeners => super::broker::parse_listeners(value).is_some(),
            Kind::AddressOrOff => super::broker::parse_address_or_off(value).is_some(),
            Kind::AddressLimits => super::broker::parse_address_limits(value).is_some(),
        }
    }

    /// Kafka's number for the type in DescribeConfigs (`DescribeConfigsResponse.ConfigType`).
    #[must_use]
    pub fn code(&self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::OneOf(_) | Kind::Folder | Kind::AddressOrOff | Kind::AddressLimits => 2,
            Kind::Int(..) => 3,
            Kind::Long(..) => 5,
            Kind::Ratio(..) => 6,
            Kind::SomeOf(_) | Kind::Listeners => 7,
        }
    }
}

/// `true` and `false`, in any case, as Kafka reads them.
#[must_use]
pub fn boolean(value: &str) -> Option<bool> {
    let value = value.trim();
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The parts of a comma-separated list.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Bool => f.write_str("true or false"),
            Kind::Int(min, i32::MAX) => write!(f, "a whole number from {min} to 2147483647"),
            Kind::Int(min, max) => write!(f, "a whole number from {min} to {max}"),
            Kind::Long(min, max) => write!(f, "a whole number from {min} to {max}"),
            Kind::Ratio(min, max) => write!(f, "a number from {min} to {max}"),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::SomeOf(words) => {
                write!(f, "any of {}, separated by commas, or nothing", words.join(", "))
            }
            Kind::Folder => f.write_str("the path of one folder"),
            Kind::AddressLimits => f.write_str(
                "addresses with numbers like 10.0.0.7:100, separated by commas, each address once",
            ),
            Kind::AddressOrOff => f.write_str("one address like 127.0.0.1:9644, or off"),
            Kind::Listeners => f.write_str(
                "addresses like PLAINTEXT://127.0.0.1:9092, separated by commas, each name once; \
                 encrypted and SASL listeners do not exist yet",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_ends() {
        let kind = Kind::Int(1, 5);
        for good in ["1", " 5 ", "+3"] {
            assert!(kind.takes(good), "{good}");
        }
        for bad in ["0", "6", "-1", "", "1.0", "1 2", "9999999999", "0x1"] {
            assert!(!kind.takes(bad), "{bad}");
        }
        assert!(Kind::Long(-1, i64::MAX).takes("9223372036854775807"));
        assert!(!Kind::Long(-1, i64::MAX).takes("9223372036854775808"));
        assert!(!Kind::Ratio(0.0, 1.0).takes("NaN"));
        assert!(Kind::Ratio(0.0, 1.0).takes("0.5"));
    }

    #[test]
    fn words_and_lists() {
        const WORDS: &[&str] = &["compact", "delete"];
        assert!(Kind::OneOf(WORDS).takes("compact"));
        assert!(!Kind::OneOf(WORDS).takes("compact,delete"));
        assert!(!Kind::OneOf(WORDS).takes(""));
        for good in ["compact, delete", "delete", "", " "] {
            assert!(Kind::SomeOf(WORDS).takes(good), "{good}");
        }
        for bad in [",", "compact,", "keep"] {
            assert!(!Kind::SomeOf(WORDS).takes(bad), "{bad}");
        }
        assert!(Kind::Bool.takes("TRUE"));
        assert!(!Kind::Bool.takes("yes"));
    }

    #[test]
    fn addresses_have_limits() {
        for good in ["", "10.0.0.7:0", "10.0.0.7:5, fe80::1:20,[::1]:3"] {
            assert!(Kind::AddressLimits.takes(good), "{good}");
        }
        for bad in ["10.0.0.7", "broker:5", "10.0.0.7:-1", "10.0.0.7:1,::ffff:10.0.0.7:2"] {
            assert!(!Kind::AddressLimits.takes(bad), "{bad}");
        }
    }

    #[test]
    fn an_endless_value_is_refused() {
        assert!(!Kind::Folder.takes(&"x".repeat(CONFIG_VALUE_BYTES_MAX + 1)));
    }
}
