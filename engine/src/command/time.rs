//! Moments as people write them: RFC 3339 in UTC or with an offset, and milliseconds since 1970.

/// Milliseconds since 1970 of a moment such as `2026-11-21T02:30:00Z`, `2026-11-21T02:30:00.250Z`
/// or `2026-11-21T03:30:00+01:00`; also of a day alone, at its first moment in UTC.
pub fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(text, 0, 4)?, number(text, 5, 2)?, number(text, 8, 2)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let midnight = days_since_1970(year, month, day) * 86_400_000;
    if bytes.len() == 10 {
        return Some(midnight);
    }
    if bytes.len() < 20 || !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    if bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(text, 11, 2)?, number(text, 14, 2)?, number(text, 17, 2)?);
    // A leap second counts as the one that follows.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = &text[19..];
    let (fraction_ms, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let mut thousandths = format!("{:0<3}", &rest[..digits.min(3)]);
            thousandths.truncate(3);
            if digits == 0 {
                return None;
            }
            (thousandths.parse().ok()?, &rest[digits..])
        }
    };
    let offset_minutes = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (number(zone, 1, 2)?, number(zone, 4, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = hours * 60 + minutes;
            if *sign == b'+' { minutes } else { -minutes }
        }
        _ => return None,
    };
    let seconds = (hour * 60 + minute - offset_minutes) * 60 + second;
    Some(midnight + seconds * 1000 + fraction_ms)
}

/// A moment in UTC with milliseconds, such as `2026-11-21T02:30:00.250Z`.
pub fn format(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    let within = ms.rem_euclid(86_400_000);
    let (year, month, day) = date(days);
    let (hour, minute) = (within / 3_600_000, within / 60_000 % 60);
    let (second, thousandths) = (within / 1000 % 60, within % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{thousandths:03}Z")
}

/// The digits in `text` at `at`.
fn number(text: &str, at: usize, digits: usize) -> Option<i64> {
    let part = text.get(at..at + digits)?;
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to a date, with years counted from March so that a leap day ends one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 306 + 5) / 10 + day - 1 - 719_468
}

/// The date so many days after 1970 began.
fn date(days: i64) -> (i64, i64, i64) {
    // An estimate that is never too late, then forward by at most a few years and months.
    let mut year = 1970 + days.div_euclid(366) - i64::from(days < 0);
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_since_1970(year, month + 1, 1) <= days {
        month += 1;
    }
    (year, month, days - days_since_1970(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2001-09-09T01:46:40.123Z", 1_000_000_000_123),
            ("2001-09-09T03:46:40+02:00", 1_000_000_000_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2001-09-09 01:46:40.1239Z", 1_000_000_000_123),
        ] {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        assert_eq!(format(1_000_000_000_123), "2001-09-09T01:46:40.123Z");
        assert_eq!(format(-1), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_is_no_moment() {
        for text in [
            "",
            "12",
            "2001-13-01",
            "2001-02-29",
            "2001-00-10",
            "2001-01-01T00:00:00",
            "2001-01-01T24:00:00Z",
            "2001-01-01T00:00:00.Z",
            "2001-01-01T00:00:00+1:00",
            "2001-01-01T00:00:00ZZ",
            "2001-01-0äT00:00:00Z",
            "+001-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_six_centuries_there_and_back() {
        for day in -109_500..109_500 {
            let ms = day * 86_400_000 + 12_345_678;
            assert_eq!(parse(&format(ms)), Some(ms));
        }
    }
}
