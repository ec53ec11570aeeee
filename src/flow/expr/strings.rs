//! The methods of `str`.

use super::builtins::{Args, given, integer};
use super::error::{Res, type_error, value_error};
use super::eval::Eval;
use super::format;
use super::index::char_count;
use super::meter::Meter;
use super::methods::{chars, clipped};
use super::text::printable;
use super::value::{Text, V};

pub(super) const METHODS: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

/// What Python takes for white space in a text.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1c'..='\x1f')
}

pub(super) fn call<'a>(eval: &Eval<'a>, text: &Text<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
    let meter = &eval.meter;
    meter.scan(text)?;
    match name {
        "format" => return format::braces(text, &args, meter),
        "join" => return join(eval, text, args),
        "split" | "rsplit" => return split(text, name, args, meter),
        "splitlines" => return splitlines(text, args, meter),
        "startswith" | "endswith" => return affix(eval, text, name, args),
        "count" | "find" | "index" | "rfind" | "rindex" => return find(text, name, args, meter),
        "strip" | "lstrip" | "rstrip" => return strip(text, name, args),
        "replace" => return replace(text, args, meter),
        "center" | "ljust" | "rjust" | "zfill" => return pad(text, name, args, meter),
        "partition" | "rpartition" | "removeprefix" | "removesuffix" => return parts(text, name, args),
        "expandtabs" => return expandtabs(text, args, meter),
        _ => {}
    }
    let [] = args.places(name, 0, [])?;
    if let Some(answer) = question(text, name) {
        return Ok(V::Bool(answer));
    }
    // A character may become three, of up to four bytes; the bound is for what is there before.
    meter.text(text.len())?;
    Ok(V::text(match name {
        "lower" => text.to_lowercase(),
        "upper" => text.to_uppercase(),
        "casefold" => text.to_lowercase().replace('ß', "ss").replace('ς', "σ"),
        "capitalize" => titled(text, |place| place == 0),
        "swapcase" => text.chars().fold(String::new(), |mut out, c| {
            if c.is_uppercase() {
                out.extend(c.to_lowercase())
            } else {
                out.extend(c.to_uppercase())
            }
            out
        }),
        _ => {
            let mut inside = false;
            let starts: Vec<bool> = text
                .chars()
                .map(|c| {
                    let start = !inside;
                    inside = cased(c);
                    start
                })
                .collect();
            titled(text, |place| starts.get(place).copied().unwrap_or(false))
        }
    }))
}

/// The text with upper-case letters at some places, and lower-case ones elsewhere.
fn titled(text: &str, upper: impl Fn(usize) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (place, c) in text.chars().enumerate() {
        if upper(place) {
            // `ß` is `Ss` at the start of a word.
            let mut large = c.to_uppercase();
            out.extend(large.next());
            out.extend(large.flat_map(char::to_lowercase));
        } else {
            out.extend(c.to_lowercase());
        }
    }
    out
}

fn cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

fn question(text: &str, name: &str) -> Option<bool> {
    let every = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    Some(match name {
        "isalnum" => every(char::is_alphanumeric),
        "isalpha" => every(char::is_alphabetic),
        "isascii" => text.is_ascii(),
        "isdecimal" => {
            every(|c| c.is_ascii_digit() || (!c.is_ascii() && c.is_numeric() && c.is_alphanumeric() && !no_decimal(c)))
        }
        "isdigit" => every(|c| {
            c.is_ascii_digit()
                || matches!(c, '²' | '³' | '¹' | '⁰'..='⁹' | '₀'..='₉')
                || (!c.is_ascii() && c.is_numeric() && !no_decimal(c))
        }),
        "isnumeric" => every(char::is_numeric),
        "isidentifier" => {
            let mut chars = text.chars();
            chars.next().is_some_and(|c| c == '_' || c.is_alphabetic())
                && chars.all(|c| c == '_' || c.is_alphanumeric())
        }
        "islower" => text.chars().any(cased) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(cased) && !text.chars().any(char::is_lowercase),
        "isprintable" => text.chars().all(printable),
        "isspace" => every(is_space),
        "istitle" => {
            let (mut inside, mut found) = (false, false);
            for c in text.chars() {
                if (c.is_uppercase() && inside) || (c.is_lowercase() && !inside) {
                    return Some(false);
                }
                inside = cased(c);
                found |= inside;
            }
            found
        }
        _ => return None,
    })
}

/// Numbers that are not digits of the decimal system: fractions, Roman and enclosed numbers, super- and subscripts, Han.
fn no_decimal(c: char) -> bool {
    matches!(c, '¼'..='¾' | '²' | '³' | '¹' | '\u{2070}'..='\u{218f}' | '\u{2460}'..='\u{27bf}' | '\u{3000}'..='\u{9fff}')
}

fn string<'a>(what: &str, value: &V<'a>) -> Res<Text<'a>> {
    match value {
        V::Str(text) => Ok(text.clone()),
        _ => type_error(format!("{what} needs a str, not a {}", value.type_name())),
    }
}

fn join<'a>(eval: &Eval<'a>, text: &Text<'a>, args: Args<'a>) -> Res<V<'a>> {
    let [items] = args.places("join", 1, [""])?;
    let mut out = String::new();
    let mut first = true;
    eval.each(&items.unwrap_or(V::None), &mut |item| {
        let V::Str(part) = &item else {
            return type_error(format!("join needs texts, not a {}; str(…) makes one", item.type_name()));
        };
        if !first {
            out.push_str(text);
        }
        first = false;
        out.push_str(part);
        if out.len() > super::meter::MAX_BYTES {
            eval.meter.text(out.len())?;
        }
        Ok(true)
    })?;
    eval.meter.text(out.len())?;
    Ok(V::text(out))
}

/// `None` is "as often as there is".
fn limit(value: Option<V<'_>>) -> Res<Option<usize>> {
    match value {
        None => Ok(None),
        Some(value) => Ok(usize::try_from(integer("a count", &value)?).ok()),
    }
}

/// The part of `text` that `part` is.
fn sub<'a>(text: &Text<'a>, part: &str) -> V<'a> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    V::Str(text.part(start..start + part.len()))
}

fn split<'a>(text: &Text<'a>, name: &str, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [separator, most] = args.places(name, 0, ["sep", "maxsplit"])?;
    let most = limit(most)?.map_or(usize::MAX, |most| most.saturating_add(1));
    let from_right = name == "rsplit";
    let mut found: Vec<&str> = Vec::new();
    match given(separator) {
        Some(separator) => {
            let separator = string(name, &separator)?;
            if separator.is_empty() {
                return value_error(format!("{name}: the separator is empty"));
            }
            let room = super::meter::MAX_ITEMS + 1;
            if from_right {
                found.extend(text.rsplitn(most, &*separator).take(room));
            } else {
                found.extend(text.splitn(most, &*separator).take(room));
            }
        }
        None => {
            let trim = |s: &str| -> usize {
                if from_right {
                    s.trim_end_matches(is_space).len()
                } else {
                    s.len() - s.trim_start_matches(is_space).len()
                }
            };
            let mut rest: &str = text;
            loop {
                let cut = trim(rest);
                rest = if from_right { &rest[..cut] } else { &rest[cut..] };
                if rest.is_empty() || found.len() > super::meter::MAX_ITEMS {
                    break;
                }
                let border = if from_right { rest.rfind(is_space) } else { rest.find(is_space) };
                match border {
                    Some(at) if found.len() + 1 < most => {
                        let (left, right) = rest.split_at(at);
                        if from_right {
                            // The white space itself is one character.
                            found.push(right.trim_start_matches(is_space));
                            rest = left;
                        } else {
                            found.push(left);
                            rest = right;
                        }
                    }
                    Some(_) if from_right => {
                        found.push(rest);
                        break;
                    }
                    _ => {
                        found.push(rest);
                        break;
                    }
                }
            }
        }
    }
    meter.items(found.len())?;
    if from_right {
        found.reverse();
    }
    Ok(V::list(found.into_iter().map(|part| sub(text, part)).collect()))
}

fn splitlines<'a>(text: &Text<'a>, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [keep] = args.places("splitlines", 0, ["keepends"])?;
    let keep = keep.is_some_and(|keep| keep.truthy());
    let mut lines = Vec::new();
    let mut rest: &str = text;
    while !rest.is_empty() {
        let ends = |c: char| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let end = rest.find(ends).unwrap_or(rest.len());
        let border =
            if rest[end..].starts_with("\r\n") { 2 } else { rest[end..].chars().next().map_or(0, char::len_utf8) };
        lines.push(sub(text, &rest[..if keep { end + border } else { end }]));
        meter.charge(1)?;
        if lines.len() > super::meter::MAX_ITEMS {
            meter.items(lines.len())?;
        }
        rest = &rest[end + border..];
    }
    Ok(V::list(lines))
}

fn affix<'a>(eval: &Eval<'a>, text: &Text<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
    let [wanted, start, stop] = args.places(name, 1, ["", "", ""])?;
    let wanted = match wanted.unwrap_or(V::None) {
        V::Tuple(items) => items.iter().map(|item| string(name, &item)).collect::<Res<Vec<Text<'a>>>>()?,
        other => vec![string(name, &other)?],
    };
    let Some((from, to)) = clipped(start, stop, char_count(text, &eval.meter)?)? else { return Ok(V::Bool(false)) };
    let part = chars(text, from, to);
    Ok(V::Bool(
        wanted
            .iter()
            .any(|wanted| if name == "startswith" { part.starts_with(&**wanted) } else { part.ends_with(&**wanted) }),
    ))
}

fn find<'a>(text: &Text<'a>, name: &str, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [wanted, start, stop] = args.places(name, 1, ["", "", ""])?;
    let wanted = string(name, &wanted.unwrap_or(V::None))?;
    let range = clipped(start, stop, char_count(text, meter)?)?;
    let (from, part) = match range {
        Some((from, to)) => (from, Some(chars(text, from, to))),
        None => (0, None),
    };
    if name == "count" {
        return Ok(V::Int(part.map_or(0, |part| part.matches(&*wanted).count() as i128)));
    }
    let found = part.and_then(|part| {
        let at = if name.starts_with('r') { part.rfind(&*wanted) } else { part.find(&*wanted) };
        at.map(|at| part[..at].chars().count() + from)
    });
    match found {
        Some(at) => Ok(V::Int(at as i128)),
        None if name.ends_with("find") => Ok(V::Int(-1)),
        None => value_error(format!("{name}: the text is not there")),
    }
}

fn strip<'a>(text: &Text<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
    let [set] = args.places(name, 0, [""])?;
    let set = given(set).map(|set| string(name, &set)).transpose()?;
    let gone = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(c));
    let mut part: &str = text;
    if name != "rstrip" {
        part = part.trim_start_matches(gone);
    }
    if name != "lstrip" {
        part = part.trim_end_matches(gone);
    }
    Ok(sub(text, part))
}

fn replace<'a>(text: &Text<'a>, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [old, new, most] = args.places("replace", 2, ["", "", "count"])?;
    let old = string("replace", &old.unwrap_or(V::None))?;
    let new = string("replace", &new.unwrap_or(V::None))?;
    let count = text.matches(&*old).count().min(limit(most)?.unwrap_or(usize::MAX));
    if count == 0 {
        return Ok(V::Str(text.clone()));
    }
    meter.text((text.len() - count * old.len()).saturating_add(count.saturating_mul(new.len())))?;
    Ok(V::text(text.replacen(&*old, &new, count)))
}

fn pad<'a>(text: &Text<'a>, name: &str, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [width, fill] = args.places(name, 1, ["", ""])?;
    let width = usize::try_from(integer(name, &width.unwrap_or(V::None))?.max(0)).unwrap_or(usize::MAX);
    let fill = fill.map(|fill| string(name, &fill)).transpose()?;
    let mut filling = fill.as_ref().map_or(" ", |fill| fill).chars();
    let (Some(fill), None) = (filling.next(), filling.next()) else {
        return type_error(format!("{name}: the filling is one character"));
    };
    let missing = width.saturating_sub(char_count(text, meter)?);
    if missing == 0 {
        return Ok(V::Str(text.clone()));
    }
    meter.text(text.len().saturating_add(missing.saturating_mul(fill.len_utf8())))?;
    let row = |count: usize| fill.to_string().repeat(count);
    Ok(V::text(match name {
        "ljust" => format!("{}{}", &**text, row(missing)),
        "rjust" => format!("{}{}", row(missing), &**text),
        "center" => {
            let left = missing / 2 + (missing & width & 1);
            format!("{}{}{}", row(left), &**text, row(missing - left))
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
    }))
}

fn parts<'a>(text: &Text<'a>, name: &str, args: Args<'a>) -> Res<V<'a>> {
    let [border] = args.places(name, 1, [""])?;
    let border = string(name, &border.unwrap_or(V::None))?;
    match name {
        "removeprefix" => return Ok(sub(text, text.strip_prefix(&*border).unwrap_or(text))),
        "removesuffix" => return Ok(sub(text, text.strip_suffix(&*border).unwrap_or(text))),
        _ if border.is_empty() => return value_error(format!("{name}: the separator is empty")),
        _ => {}
    }
    let from_right = name == "rpartition";
    let found = if from_right { text.rsplit_once(&*border) } else { text.split_once(&*border) };
    let empty = || V::Str(Text::Lent(""));
    Ok(V::tuple(match found {
        Some((left, right)) => vec![sub(text, left), V::Str(border), sub(text, right)],
        None if from_right => vec![empty(), empty(), V::Str(text.clone())],
        None => vec![V::Str(text.clone()), empty(), empty()],
    }))
}

fn expandtabs<'a>(text: &Text<'a>, args: Args<'a>, meter: &Meter) -> Res<V<'a>> {
    let [size] = args.places("expandtabs", 0, ["tabsize"])?;
    let size = size.map_or(Ok(8), |size| integer("expandtabs", &size))?;
    let size = usize::try_from(size.max(0)).unwrap_or(usize::MAX);
    meter.text(text.len().saturating_add(text.matches('\t').count().saturating_mul(size)))?;
    let mut out = String::new();
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let step = size - column % size;
                out.push_str(&" ".repeat(step));
                column += step;
            }
            '\t' => {}
            c => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(V::text(out))
}
