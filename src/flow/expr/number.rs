//! Numbers: Python's arithmetic, and how numbers are read and written.

use super::error::{ErrorKind, Fail, Res, too_large, value_error};
use std::cmp::Ordering;

/// A number of either sort.
#[derive(Clone, Copy)]
pub(super) enum Num {
    Int(i128),
    Float(f64),
}

impl Num {
    #[expect(clippy::cast_precision_loss, reason = "Python rounds here too")]
    pub(super) fn float(self) -> f64 {
        match self {
            Num::Int(n) => n as f64,
            Num::Float(x) => x,
        }
    }
}

/// The order of two numbers, exactly; `None` where one is `nan`.
pub(super) fn compare(a: Num, b: Num) -> Option<Ordering> {
    match (a, b) {
        (Num::Int(a), Num::Int(b)) => Some(a.cmp(&b)),
        (Num::Float(a), Num::Float(b)) => a.partial_cmp(&b),
        (Num::Int(a), Num::Float(b)) => int_float(a, b),
        (Num::Float(a), Num::Int(b)) => int_float(b, a).map(Ordering::reverse),
    }
}

fn int_float(a: i128, b: f64) -> Option<Ordering> {
    if b.is_nan() {
        return None;
    }
    match whole(b) {
        Some(whole) => Some(a.cmp(&whole).then_with(|| 0.0.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))),
        None => Some(if b > 0.0 { Ordering::Less } else { Ordering::Greater }),
    }
}

/// A float without its fraction, if it fits.
#[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
fn whole(x: f64) -> Option<i128> {
    (x.abs() < 1.7e38).then_some(x as i128)
}

/// `int(x)`
pub(super) fn truncate(x: f64) -> Res<i128> {
    if !x.is_finite() {
        return value_error(format!("{} is not an integer", float_repr(x)));
    }
    match whole(x) {
        Some(n) => Ok(n),
        None => overflow(),
    }
}

pub(super) fn overflow<T>() -> Res<T> {
    too_large("the number is too large")
}

fn by_zero<T>() -> Res<T> {
    Err(Fail::new(ErrorKind::ZeroDivision, "division by zero"))
}

/// `/`
pub(super) fn divide(a: Num, b: Num) -> Res<f64> {
    if b.float() == 0.0 {
        return by_zero();
    }
    match (a, b) {
        (Num::Int(a), Num::Int(b)) if a.unsigned_abs().max(b.unsigned_abs()) > EXACT => {
            let size = ratio(a.unsigned_abs(), b.unsigned_abs());
            Ok(if (a < 0) == (b < 0) { size } else { -size })
        }
        _ => Ok(a.float() / b.float()),
    }
}

/// Up to here every integer is a float.
const EXACT: u128 = 1 << 53;

/// The float nearest to `a / b`; the floats nearest to each would round twice. `b` is not zero, and both are at most 2^127.
#[expect(clippy::cast_precision_loss, reason = "the one rounding that is due: what it drops is in the lowest bit")]
fn ratio(a: u128, b: u128) -> f64 {
    if a == 0 {
        return 0.0;
    }
    let (mut quotient, mut rest, mut exponent) = (a / b, a % b, 0i32);
    // Bits behind the point, until there are more than enough to round.
    while quotient < 1 << 64 {
        rest <<= 1;
        quotient = quotient << 1 | u128::from(rest >= b);
        if rest >= b {
            rest -= b;
        }
        exponent -= 1;
    }
    (quotient | u128::from(rest != 0)) as f64 * 2f64.powi(exponent)
}

/// `//` and `%`.
pub(super) fn floor_divide(a: Num, b: Num) -> Res<(Num, Num)> {
    if let (Num::Int(a), Num::Int(b)) = (a, b) {
        if b == 0 {
            return by_zero();
        }
        let (Some(quotient), Some(rest)) = (a.checked_div(b), a.checked_rem(b)) else { return overflow() };
        let down = rest != 0 && (rest < 0) != (b < 0);
        return Ok(if down {
            (Num::Int(quotient - 1), Num::Int(rest + b))
        } else {
            (Num::Int(quotient), Num::Int(rest))
        });
    }
    let (a, b) = (a.float(), b.float());
    if b == 0.0 {
        return by_zero();
    }
    // As CPython's float_divmod.
    let mut rest = a % b;
    let mut quotient = (a - rest) / b;
    if rest == 0.0 {
        rest = 0.0f64.copysign(b);
    } else if (b < 0.0) != (rest < 0.0) {
        rest += b;
        quotient -= 1.0;
    }
    let floor = if quotient == 0.0 {
        0.0f64.copysign(a / b)
    } else {
        let floor = quotient.floor();
        if quotient - floor > 0.5 { floor + 1.0 } else { floor }
    };
    Ok((Num::Float(floor), Num::Float(rest)))
}

pub(super) fn power(a: Num, b: Num) -> Res<Num> {
    if let (Num::Int(base), Num::Int(exponent)) = (a, b)
        && exponent >= 0
    {
        return match (base, u32::try_from(exponent)) {
            (0 | 1, _) => Ok(Num::Int(if exponent == 0 { 1 } else { base })),
            (-1, _) => Ok(Num::Int(if exponent % 2 == 0 { 1 } else { -1 })),
            (_, Ok(exponent)) => match base.checked_pow(exponent) {
                Some(n) => Ok(Num::Int(n)),
                None => overflow(),
            },
            _ => overflow(),
        };
    }
    let (base, exponent) = (a.float(), b.float());
    if base == 0.0 && exponent < 0.0 {
        return Err(Fail::new(ErrorKind::ZeroDivision, "zero to a negative power"));
    }
    if base < 0.0 && base.is_finite() && exponent.is_finite() && exponent.fract() != 0.0 {
        return value_error("a negative number to a power that is not whole is a complex number");
    }
    let result = base.powf(exponent);
    if result.is_infinite() && base.is_finite() && exponent.is_finite() { overflow() } else { Ok(Num::Float(result)) }
}

/// `round(x, digits)` of a float.
pub(super) fn round_float(x: f64, digits: i128) -> f64 {
    if !x.is_finite() {
        return x;
    }
    match digits {
        // 17 significant digits and 308 places: nothing is left to round.
        330.. => x,
        // Rust writes the exact decimal value, rounded half to even, as Python's round does.
        0..330 => format!("{x:.*}", usize::try_from(digits).unwrap_or(0)).parse().unwrap_or(x),
        -308..0 => {
            let scale = 10f64.powi(i32::try_from(-digits).unwrap_or(0));
            let scaled = x / scale;
            if scaled.is_finite() { scaled.round_ties_even() * scale } else { x }
        }
        _ => 0.0f64.copysign(x),
    }
}

/// `round(n, digits)` of an integer.
pub(super) fn round_int(n: i128, digits: i128) -> Res<i128> {
    if digits >= 0 {
        return Ok(n);
    }
    let places = u32::try_from(digits.unsigned_abs()).unwrap_or(u32::MAX);
    let Some(scale) = 10i128.checked_pow(places) else { return Ok(0) };
    let rest = n.rem_euclid(scale);
    // What is subtracted first may lie past the smallest integer; the quotient does not.
    let below = n.div_euclid(scale);
    let up = match rest.cmp(&(scale / 2)) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => below % 2 != 0,
    };
    (below + i128::from(up)).checked_mul(scale).map_or_else(overflow, Ok)
}

/// Digits and exponent of a float: `d.ddd × 10^exponent`, the shortest that reads back as the same.
fn shortest(x: f64) -> (String, i32) {
    let written = format!("{:e}", x.abs());
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    (digits.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// A float as Python prints it.
pub(super) fn float_repr(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    let sign = if x.is_sign_negative() { "-" } else { "" };
    if x.is_infinite() {
        return format!("{sign}inf");
    }
    let (digits, exponent) = shortest(x);
    let body =
        if (-4..16).contains(&exponent) { positional(&digits, exponent, true) } else { exponential(&digits, exponent) };
    format!("{sign}{body}")
}

/// `digits` with the point behind the place `exponent`.
pub(super) fn positional(digits: &str, exponent: i32, point: bool) -> String {
    match usize::try_from(exponent) {
        Err(_) => format!("0.{}{digits}", "0".repeat(usize::try_from(-exponent - 1).unwrap_or(0))),
        Ok(exponent) if digits.len() > exponent + 1 => format!("{}.{}", &digits[..=exponent], &digits[exponent + 1..]),
        Ok(exponent) => {
            format!("{digits}{}{}", "0".repeat(exponent + 1 - digits.len()), if point { ".0" } else { "" })
        }
    }
}

/// `d.ddde+XX`
pub(super) fn exponential(digits: &str, exponent: i32) -> String {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
}

/// Underscores between digits are allowed, elsewhere not.
fn without_underscores(text: &str) -> Option<String> {
    if !text.contains('_') {
        return Some(text.to_string());
    }
    let chars: Vec<char> = text.chars().collect();
    for (i, c) in chars.iter().enumerate() {
        let digit = |c: Option<&char>| c.is_some_and(char::is_ascii_alphanumeric);
        if *c == '_' && !(i > 0 && digit(chars.get(i - 1)) && digit(chars.get(i + 1))) {
            return None;
        }
    }
    Some(text.replace('_', ""))
}

/// What an error shows of a text.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// `float(text)`
pub(super) fn parse_float(text: &str) -> Res<f64> {
    let trimmed = text.trim_matches(super::strings::is_space);
    let bad = || value_error(format!("float: {} is not a number", excerpt(text)));
    let Some(plain) = without_underscores(trimmed) else { return bad() };
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain).to_ascii_lowercase();
    // Rust and Python agree on what a float is, words included, but for where underscores may stand.
    let word = matches!(unsigned.as_str(), "inf" | "infinity" | "nan");
    if trimmed.len() != plain.len() && (word || unsigned.bytes().any(|b| b.is_ascii_alphabetic() && b != b'e')) {
        return bad();
    }
    plain.parse().or_else(|_| bad())
}

/// `int(text, base)`
pub(super) fn parse_int(text: &str, base: u32) -> Res<i128> {
    let trimmed = text.trim_matches(super::strings::is_space);
    let bad = || {
        value_error(format!(
            "int: {} is not an integer{}",
            excerpt(text),
            if base == 10 { "" } else { " in this base" }
        ))
    };
    let (negative, digits) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match (lower.get(..2), base) {
        (Some("0x"), 0 | 16) => (16, &lower[2..]),
        (Some("0o"), 0 | 8) => (8, &lower[2..]),
        (Some("0b"), 0 | 2) => (2, &lower[2..]),
        (_, 0) if lower.starts_with('0') && lower.bytes().any(|b| b != b'0' && b != b'_') => return bad(),
        (_, 0) => (10, lower.as_str()),
        _ => (base, lower.as_str()),
    };
    // Behind a prefix an underscore may come first: `0x_1`.
    let digits = if digits.len() < lower.len() { digits.strip_prefix('_').unwrap_or(digits) } else { digits };
    let Some(plain) = without_underscores(digits) else { return bad() };
    if plain.is_empty() || !plain.chars().all(|c| c.is_digit(base)) {
        return bad();
    }
    match i128::from_str_radix(&plain, base) {
        Ok(n) => Ok(if negative { -n } else { n }),
        Err(_) => overflow(),
    }
}
