//! `'…' % values` and `'…'.format(…)`.

use super::builtins::Args;
use super::compare::num;
use super::error::{ErrorKind, Fail, Res, forbidden, too_large, type_error, value_error};
use super::meter::Meter;
use super::number::{Num, exponential, positional};
use super::text;
use super::value::V;

/// Digits and widths beyond this are refused.
const MAX_WIDTH: usize = 1_000;

/// How one value is to be written: `[[fill]align][sign][#][0][width][,][.precision][type]`.
#[derive(Default)]
struct Spec {
    fill: Option<char>,
    align: Option<char>,
    sign: Option<char>,
    alternate: bool,
    zero: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    fn parse(text: &str) -> Res<Spec> {
        let mut chars = text.chars().peekable();
        let mut spec = Spec::default();
        let is_align = |c: char| matches!(c, '<' | '>' | '^' | '=');
        if text.chars().nth(1).is_some_and(is_align) {
            spec.fill = chars.next();
        }
        spec.align = chars.next_if(|c| is_align(*c));
        spec.sign = chars.next_if(|c| matches!(c, '+' | '-' | ' '));
        spec.alternate = chars.next_if_eq(&'#').is_some();
        spec.zero = chars.next_if_eq(&'0').is_some();
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        spec.width = size(&digits)?;
        spec.grouping = chars.next_if(|c| matches!(c, ',' | '_'));
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            if digits.is_empty() {
                return value_error("format: a precision is missing after the point");
            }
            spec.precision = Some(size(&digits)?);
        }
        spec.kind = chars.next();
        if chars.next().is_some() {
            return value_error(format!("format: {text:?} does not say how to write a value"));
        }
        Ok(spec)
    }

    /// The text with its filling.
    fn padded(&self, sign: &str, body: &str, number: bool) -> String {
        let missing = self.width.saturating_sub(sign.chars().count() + body.chars().count());
        let align = self.align.unwrap_or(match (self.zero, number) {
            (true, true) => '=',
            (_, true) => '>',
            _ => '<',
        });
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        let row = |count: usize| fill.to_string().repeat(count);
        match align {
            '<' => format!("{sign}{body}{}", row(missing)),
            '^' => format!("{}{sign}{body}{}", row(missing / 2), row(missing - missing / 2)),
            '=' => format!("{sign}{}{body}", row(missing)),
            _ => format!("{}{sign}{body}", row(missing)),
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        }
    }
}

fn size(digits: &str) -> Res<usize> {
    if digits.is_empty() {
        return Ok(0);
    }
    match digits.parse() {
        Ok(n) if n <= MAX_WIDTH => Ok(n),
        _ => too_large(format!("format: a width or precision of more than {MAX_WIDTH}")),
    }
}

/// `format(value, spec)`
fn formatted<'a>(value: &V<'a>, spec: &str, meter: &Meter) -> Res<String> {
    if spec.is_empty() {
        return Ok(text::str(value, meter)?.to_string());
    }
    let spec = Spec::parse(spec)?;
    match (value, num(value), spec.kind) {
        (V::Str(text), ..) => {
            if !matches!(spec.kind, None | Some('s'))
                || spec.align == Some('=')
                || spec.sign.is_some()
                || spec.grouping.is_some()
            {
                return value_error("format: a str is not written like a number");
            }
            meter.text(text.len())?;
            let cut: String = text.chars().take(spec.precision.unwrap_or(usize::MAX)).collect();
            Ok(spec.padded("", &cut, false))
        }
        (_, Some(Num::Int(n)), None | Some('d' | 'n' | 'x' | 'X' | 'o' | 'b' | 'c')) => integer(n, &spec),
        (_, Some(number), _) => float(number.float(), &spec),
        _ => type_error(format!(
            "format: a {} takes no {:?}",
            value.type_name(),
            spec.kind.map_or(String::new(), String::from)
        )),
    }
}

fn grouped(digits: &str, separator: Option<char>, every: usize) -> String {
    let Some(separator) = separator else { return digits.to_string() };
    let count = digits.chars().count();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (count - i).is_multiple_of(every) {
            out.push(separator);
        }
        out.push(c);
    }
    out
}

fn integer(n: i128, spec: &Spec) -> Res<String> {
    if spec.precision.is_some() {
        return value_error("format: an integer has no precision");
    }
    let size = n.unsigned_abs();
    let (prefix, digits, every) = match spec.kind {
        Some('x') => ("0x", format!("{size:x}"), 4),
        Some('X') => ("0X", format!("{size:X}"), 4),
        Some('o') => ("0o", format!("{size:o}"), 4),
        Some('b') => ("0b", format!("{size:b}"), 4),
        Some('c') => match u32::try_from(n).ok().and_then(char::from_u32) {
            Some(c) => return Ok(spec.padded("", &c.to_string(), false)),
            None => return value_error(format!("format: {n} is not the number of a character")),
        },
        _ => ("", size.to_string(), 3),
    };
    let sign = format!("{}{}", spec.sign(n < 0), if spec.alternate { prefix } else { "" });
    Ok(spec.padded(&sign, &grouped(&digits, spec.grouping, every), true))
}

fn float(x: f64, spec: &Spec) -> Res<String> {
    let kind = spec.kind.unwrap_or('\0');
    let (x, suffix) = if kind == '%' { (x * 100.0, "%") } else { (x, "") };
    let size = x.abs();
    let body = if !size.is_finite() {
        if size.is_nan() { "nan".to_string() } else { "inf".to_string() }
    } else {
        match kind.to_ascii_lowercase() {
            'f' | '%' => format!("{size:.*}", spec.precision.unwrap_or(6)),
            'e' => {
                let (digits, exponent) = significant(size, spec.precision.unwrap_or(6) + 1);
                exponential(&digits, exponent)
            }
            'g' | 'n' => general(size, spec.precision.unwrap_or(6).max(1), false, spec.alternate),
            '\0' => match spec.precision {
                Some(precision) => general(size, precision.max(1), true, false),
                None => super::number::float_repr(size),
            },
            _ => return value_error(format!("format: {kind:?} is not a way to write a number")),
        }
    };
    let body = if kind.is_ascii_uppercase() { body.to_ascii_uppercase() } else { body };
    let body = match (spec.grouping, body.find(['.', 'e'])) {
        (Some(_), Some(at)) => format!("{}{}", grouped(&body[..at], spec.grouping, 3), &body[at..]),
        (grouping, _) => grouped(&body, grouping, 3),
    };
    Ok(spec.padded(spec.sign(x.is_sign_negative() && !x.is_nan()), &format!("{body}{suffix}"), true))
}

/// So many digits, and the exponent of the first.
fn significant(x: f64, digits: usize) -> (String, i32) {
    let written = format!("{x:.*e}", digits - 1);
    let (digits, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    (digits.replace('.', ""), exponent.parse().unwrap_or(0))
}

/// `%g`; `plain` is what Python does without a type: a point is always there.
fn general(x: f64, precision: usize, plain: bool, keep_zeros: bool) -> String {
    let (digits, exponent) = significant(x, precision);
    let digits = if keep_zeros { digits.as_str() } else { digits.trim_end_matches('0') };
    let digits = if digits.is_empty() { "0" } else { digits };
    let most = i32::try_from(precision).unwrap_or(i32::MAX) - i32::from(plain);
    if (-4..most).contains(&exponent) { positional(digits, exponent, plain) } else { exponential(digits, exponent) }
}

/// `'…'.format(…)`
pub(super) fn braces<'a>(template: &str, args: &Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            out.push_str(brace);
            rest = after;
            continue;
        }
        let (Some(end), "{") = (rest.find('}'), brace) else {
            return value_error("format: a brace without its partner; a brace itself is written twice");
        };
        let field = &rest[..end];
        rest = &rest[end + 1..];
        out.push_str(&braced(field, args, &mut next, meter)?);
        if out.len() > super::meter::MAX_BYTES {
            meter.text(out.len())?;
        }
    }
    out.push_str(rest);
    meter.text(out.len())?;
    Ok(V::text(out))
}

/// One `{name!r:spec}`.
fn braced<'a>(field: &str, args: &Args<'a>, next: &mut usize, meter: &Meter) -> Res<String> {
    meter.charge(1)?;
    let (name, spec) = field.split_once(':').unwrap_or((field, ""));
    let (name, conversion) = name.split_once('!').map_or((name, None), |(name, how)| (name, Some(how)));
    if name.contains(['.', '[', '{']) || spec.contains('{') {
        return forbidden("format: a field is a name or number only; reach into values outside of it");
    }
    let value = if name.is_empty() {
        *next += 1;
        args.plain.get(*next - 1)
    } else if let Ok(place) = name.parse::<usize>() {
        args.plain.get(place)
    } else {
        args.named.iter().find(|(given, _)| **given == *name).map(|(_, value)| value)
    };
    let Some(value) = value else {
        return Err(Fail::new(ErrorKind::Index, format!("format: there is no argument for {{{name}}}")));
    };
    match conversion {
        None => formatted(value, spec, meter),
        Some("s") => formatted(&V::Str(text::str(value, meter)?), spec, meter),
        Some("r") => formatted(&V::text(text::repr(value, meter)?), spec, meter),
        Some(other) => value_error(format!("format: there is no conversion !{other}")),
    }
}

/// The values of a `%`, as they are used up.
struct Values<'v, 'a> {
    all: &'v V<'a>,
    used: usize,
}

impl<'a> Values<'_, 'a> {
    fn next(&mut self) -> Res<V<'a>> {
        let found = match self.all {
            V::Tuple(items) => items.get(self.used),
            other => (self.used == 0).then(|| other.clone()),
        };
        self.used += 1;
        found.ok_or_else(|| Fail::new(ErrorKind::Type, "`%`: there are fewer values than places"))
    }
}

/// `template % values`
pub(super) fn percent<'a>(template: &str, all: &V<'a>, meter: &Meter) -> Res<V<'a>> {
    let mut values = Values { all, used: 0 };
    let mut by_name = false;
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let mut value = None;
        if let Some(after) = rest.strip_prefix('(') {
            let (Some(end), V::Dict(dict)) = (after.find(')'), all) else {
                return type_error("`%(name)s` needs a dict on the right");
            };
            let name = &after[..end];
            value = dict.get(&V::text(name), meter)?;
            if value.is_none() {
                return Err(Fail::new(ErrorKind::Key, format!("`%`: there is no key {name:?}")));
            }
            by_name = true;
            rest = &after[end + 1..];
        }
        let end =
            rest.find(|c: char| !matches!(c, '-' | '+' | ' ' | '#' | '.' | '*' | '0'..='9')).unwrap_or(rest.len());
        let (flags, after) = rest.split_at(end);
        let Some(kind) = after.chars().next() else {
            return value_error("`%`: the text ends within a place; a percent sign is `%%`");
        };
        rest = &after[kind.len_utf8()..];
        if flags.contains('*') {
            return forbidden("`%`: a width is written as a number");
        }
        let value = value.map_or_else(|| values.next(), Ok)?;
        out.push_str(&placed(flags, kind, &value, meter)?);
        if out.len() > super::meter::MAX_BYTES {
            meter.text(out.len())?;
        }
    }
    out.push_str(rest);
    let all_used = match all {
        V::Tuple(items) => values.used >= items.len(),
        V::Dict(_) | V::List(_) | V::Range(_) => true,
        _ => values.used > 0,
    };
    if !all_used && !by_name {
        return type_error("`%`: there are more values than places");
    }
    meter.text(out.len())?;
    Ok(V::text(out))
}

/// One `%5.2f`.
fn placed<'a>(flags: &str, kind: char, value: &V<'a>, meter: &Meter) -> Res<String> {
    meter.charge(1)?;
    let signs = flags.trim_start_matches(['-', '+', ' ', '#', '0']);
    let has = |flag: char| flags[..flags.len() - signs.len()].contains(flag);
    let (width, precision) = match signs.split_once('.') {
        Some((width, precision)) => (size(width)?, Some(size(precision)?)),
        None => (size(signs)?, None),
    };
    let number = num(value);
    let mut spec = Spec {
        align: if has('-') { Some('<') } else { None },
        sign: if has('+') { Some('+') } else { has(' ').then_some(' ') },
        alternate: has('#'),
        zero: has('0') && !has('-'),
        width,
        ..Spec::default()
    };
    match (kind, number) {
        ('s' | 'r' | 'a', _) => {
            let text = if kind == 's' { text::str(value, meter)?.to_string() } else { text::repr(value, meter)? };
            let cut: String = text.chars().take(precision.unwrap_or(usize::MAX)).collect();
            spec.zero = false;
            spec.align = Some(if has('-') { '<' } else { '>' });
            Ok(spec.padded("", &cut, false))
        }
        ('d' | 'i' | 'u', Some(n)) => {
            let n = match n {
                Num::Int(n) => n,
                Num::Float(x) => super::number::truncate(x)?,
            };
            let digits = format!("{:0>1$}", n.unsigned_abs(), precision.unwrap_or(0));
            Ok(spec.padded(spec.sign(n < 0), &digits, true))
        }
        ('x' | 'X' | 'o', Some(Num::Int(n))) => {
            spec.kind = Some(kind);
            integer(n, &spec)
        }
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Some(n)) => {
            spec.kind = Some(kind);
            spec.precision = precision;
            float(n.float(), &spec)
        }
        ('c', Some(Num::Int(n))) => {
            spec.kind = Some('c');
            spec.zero = false;
            spec.align = Some(if has('-') { '<' } else { '>' });
            integer(n, &spec)
        }
        ('c', None) if matches!(value, V::Str(text) if text.chars().count() == 1) => {
            spec.align = Some(if has('-') { '<' } else { '>' });
            Ok(spec.padded("", &text::str(value, meter)?, false))
        }
        ('d' | 'i' | 'u' | 'x' | 'X' | 'o' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | 'c', _) => {
            type_error(format!("`%{kind}` needs a number, not a {}", value.type_name()))
        }
        _ => value_error(format!("`%{kind}` is not a place for a value; a percent sign is `%%`")),
    }
}
