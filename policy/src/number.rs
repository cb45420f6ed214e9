//! JSON numbers as the exact decimals that they are written as, however long: no digit is lost to a float.

use std::cmp::Ordering;

/// An exact decimal. `1`, `1.0` and `10e-1` are equal; `-0` is `0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    /// Significant digits, `0` to `9`, without zeros at either end. Empty for zero.
    digits: Vec<u8>,
    /// The value is `0.digits × 10^exponent`. 0 for zero.
    exponent: i64,
}

/// Decimal places that an amount is counted in.
const PLACES: i64 = 18;

impl Decimal {
    /// Zero.
    #[must_use]
    pub fn zero() -> Self {
        Self { negative: false, digits: Vec::new(), exponent: 0 }
    }

    /// Reads a JSON number. None if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        if digits.is_empty() {
            return Some(Self::zero());
        }
        let shift = |count: usize| i64::try_from(count).ok();
        let exponent = exponent.checked_add(shift(whole.len())?)?.checked_sub(shift(zeros)?)?;
        Some(Self { negative, digits, exponent })
    }

    /// Whether it is below zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether it has no fraction.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        usize::try_from(self.exponent).map_or(self.digits.is_empty(), |whole| self.digits.len() <= whole)
    }

    /// How many digits it takes to write it, zeros at either end left out.
    #[must_use]
    pub fn significant_digits(&self) -> usize {
        self.digits.len()
    }

    /// Whether it lies beyond ±2^53, where servers do not read numbers alike.
    #[must_use]
    pub fn is_beyond_exact(&self) -> bool {
        const LIMIT: &[u8] = b"9007199254740992";
        match self.exponent.cmp(&16) {
            Ordering::Less => false,
            // Without zeros at the end, digits compare as text does: a prefix is smaller.
            Ordering::Equal => self.digits.as_slice() > LIMIT,
            Ordering::Greater => true,
        }
    }

    /// The whole number that it is, within ±2^63.
    #[must_use]
    pub fn to_i64(&self) -> Option<i64> {
        if !self.is_whole() {
            return None;
        }
        let whole = usize::try_from(self.exponent).ok().filter(|whole| *whole <= 19)?;
        let magnitude = (0..whole).try_fold(0_i64, |value, place| {
            let digit = i64::from(self.digits.get(place).map_or(0, |digit| digit - b'0'));
            // Downwards, since there is one more number on that side of zero.
            value.checked_mul(10)?.checked_sub(digit)
        })?;
        if self.negative { Some(magnitude) } else { magnitude.checked_neg() }
    }

    /// The nearest double.
    #[must_use]
    pub fn to_f64(&self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// In units of 10^-18, rounded up; none if it is negative or has more than 19 digits before the point.
    #[must_use]
    pub fn to_units(&self) -> Option<u128> {
        if self.negative || self.exponent > 19 {
            return None;
        }
        let places = usize::try_from(self.exponent + PLACES).unwrap_or(0);
        let units = (0..places).try_fold(0_u128, |value, place| {
            let digit = u128::from(self.digits.get(place).map_or(0, |digit| digit - b'0'));
            value.checked_mul(10)?.checked_add(digit)
        })?;
        units.checked_add(u128::from(self.digits.len() > places))
    }
}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        // An integer prints as a JSON number.
        Self::parse(&value.to_string()).unwrap_or_else(Self::zero)
    }
}

impl std::fmt::Display for Decimal {
    /// As a JSON number, not always the way it was written.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = std::str::from_utf8(&self.digits).unwrap_or_default();
        let sign = if self.negative { "-" } else { "" };
        let length = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        match self.exponent {
            _ if digits.is_empty() => f.write_str("0"),
            exponent if exponent >= length && exponent <= 21 => {
                write!(f, "{sign}{digits}{}", "0".repeat(usize::try_from(exponent - length).unwrap_or(0)))
            }
            exponent if exponent > 0 && exponent < length => {
                let (whole, fraction) = digits.split_at(usize::try_from(exponent).unwrap_or(0));
                write!(f, "{sign}{whole}.{fraction}")
            }
            exponent if exponent <= 0 && exponent > -6 => {
                write!(f, "{sign}0.{}{digits}", "0".repeat(usize::try_from(-exponent).unwrap_or(0)))
            }
            exponent => {
                let (first, rest) = digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{sign}{first}{point}{rest}e{}", exponent - 1)
            }
        }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = || match (self.digits.is_empty(), other.digits.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            // Without zeros at either end, digits compare as text does: a prefix is smaller.
            (false, false) => self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits)),
        };
        match (self.negative, other.negative) {
            (false, false) => magnitude(),
            (true, true) => magnitude().reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn values_are_equal_however_they_are_written() {
        for same in [["1", "1.0"], ["10e-1", "1"], ["-0", "0"], ["0e9", "0.000"], ["1200", "12e2"], ["0.0012", "1.2E-3"], ["-5", "-50e-1"]]
        {
            assert_eq!(decimal(same[0]), decimal(same[1]), "{same:?}");
        }
    }

    #[test]
    fn order_is_that_of_values() {
        let ascending = ["-1e3", "-999.9", "-1", "-0.1", "-1e-9", "0", "1e-9", "0.1", "0.11", "0.2", "1", "9", "10", "10.5", "11", "1e3"];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(decimal(a).cmp(&decimal(b)), i.cmp(&j), "{a} and {b}");
            }
        }
    }

    #[test]
    fn no_digit_is_lost() {
        let long = "0.1000000000000000055511151231257827021181583404541015625";
        assert!(decimal(long) > decimal("0.1"));
        assert!(decimal("9007199254740993").is_beyond_exact());
        assert!(!decimal("9007199254740992").is_beyond_exact());
        assert!(!decimal("-9007199254740992").is_beyond_exact());
        assert!(decimal("-9007199254740992.5").is_beyond_exact());
    }

    #[test]
    fn units_are_rounded_up() {
        for (text, units) in [
            ("0", Some(0)),
            ("1", Some(1_000_000_000_000_000_000)),
            ("0.5", Some(500_000_000_000_000_000)),
            ("1e-18", Some(1)),
            ("1e-19", Some(1)),
            ("1.5e-18", Some(2)),
            ("1e-300", Some(1)),
            ("-1", None),
            ("1e30", None),
        ] {
            assert_eq!(decimal(text).to_units(), units, "{text}");
        }
    }

    #[test]
    fn integers_are_read_whole() {
        for (text, value) in [
            ("0", Some(0)),
            ("-12", Some(-12)),
            ("1.0", Some(1)),
            ("1.5", None),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("1e300", None),
            ("1e-3", None),
        ] {
            assert_eq!(decimal(text).to_i64(), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "1_0", "NaN", "1e99999999999999999999"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_keeps_the_value(whole in any::<i64>(), fraction in "[0-9]{0,12}", exponent in -30_i64..30) {
            let text = if fraction.is_empty() { format!("{whole}e{exponent}") } else { format!("{whole}.{fraction}e{exponent}") };
            let read = decimal(&text);
            prop_assert_eq!(decimal(&read.to_string()), read);
        }

        #[test]
        fn integers_compare_as_integers(a in any::<i64>(), b in any::<i64>()) {
            prop_assert_eq!(Decimal::from(a).cmp(&Decimal::from(b)), a.cmp(&b));
            prop_assert_eq!(Decimal::from(a).to_i64(), Some(a));
        }
    }
}
