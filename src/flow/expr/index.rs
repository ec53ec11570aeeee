//! Subscripts, slices, and attributes.

use super::compare::num;
use super::error::{ErrorKind, Fail, Res, forbidden, type_error, value_error};
use super::eval::Eval;
use super::meter::Meter;
use super::methods;
use super::number::{self, Num};
use super::text;
use super::value::{Dict, Func, Seq, Span, Text, V};
use std::rc::Rc;

/// `value[index]`
pub(super) fn subscript<'a>(value: &V<'a>, index: &V<'a>, meter: &Meter) -> Res<V<'a>> {
    if let V::Dict(dict) = value {
        return match dict.get(index, meter)? {
            Some(found) => Ok(found),
            None => {
                let key = text::repr(index, meter)?;
                Err(Fail::new(ErrorKind::Key, format!("there is no key {}{}", short(&key), offered(dict))))
            }
        };
    }
    let len = match value {
        V::List(items) | V::Tuple(items) => items.len(),
        V::Str(text) => char_count(text, meter)?,
        V::Range(span) => usize::try_from(span.len).unwrap_or(usize::MAX),
        V::None => return type_error("None has no elements; is the field set?"),
        _ => return type_error(format!("a {} has no elements to take by [ ]", value.type_name())),
    };
    let Some(Num::Int(at)) = num(index) else {
        return type_error(format!("a {} is indexed by an integer, not a {}", value.type_name(), index.type_name()));
    };
    let place = if at < 0 { at.saturating_add(len as i128) } else { at };
    let out_of_range =
        || Fail::new(ErrorKind::Index, format!("there is no element {at}: the {} has {len}", value.type_name()));
    let place = usize::try_from(place).ok().filter(|place| *place < len).ok_or_else(out_of_range)?;
    match value {
        V::List(items) | V::Tuple(items) => items.get(place).ok_or_else(out_of_range),
        V::Range(span) => Ok(span.get(place as i128)),
        V::Str(text) => Ok(V::Str(chars(text, place, place + 1))),
        _ => Err(out_of_range()),
    }
}

/// The number of characters.
pub(super) fn char_count(text: &str, meter: &Meter) -> Res<usize> {
    meter.scan(text)?;
    Ok(text.chars().count())
}

/// The characters from `start` to before `stop`.
pub(super) fn chars<'a>(text: &Text<'a>, start: usize, stop: usize) -> Text<'a> {
    let mut borders = text.char_indices().map(|(byte, _)| byte).chain([text.len()]);
    let from = borders.nth(start).unwrap_or(text.len());
    let to = if stop > start { borders.nth(stop - start - 1).unwrap_or(text.len()) } else { from };
    text.part(from..to)
}

fn bound(value: Option<&V<'_>>) -> Res<Option<i128>> {
    match value {
        None | Some(V::None) => Ok(None),
        Some(value) => match num(value) {
            Some(Num::Int(n)) => Ok(Some(n)),
            _ => type_error(format!("a slice takes integers, not a {}", value.type_name())),
        },
    }
}

/// `value[start:stop:step]`
pub(super) fn slice<'a>(value: &V<'a>, parts: [Option<V<'a>>; 3], meter: &Meter) -> Res<V<'a>> {
    let [start, stop, step] = parts;
    let len = match value {
        V::List(items) | V::Tuple(items) => items.len() as i128,
        V::Str(text) => char_count(text, meter)? as i128,
        V::Range(span) => span.len,
        V::None => return type_error("None has no elements; is the field set?"),
        _ => return type_error(format!("a {} has no slices", value.type_name())),
    };
    let (start, stop, step) = (bound(start.as_ref())?, bound(stop.as_ref())?, bound(step.as_ref())?.unwrap_or(1));
    if step == 0 {
        return value_error("the step of a slice is zero");
    }
    // As Python's slice.indices: past an end is the end.
    let step = step.clamp(-(len + 1), len + 1);
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clip = |n: i128| if n < 0 { n.saturating_add(len).max(low) } else { n.min(high) };
    let start = start.map_or(if step > 0 { low } else { high }, clip);
    let stop = stop.map_or(if step > 0 { high } else { low }, clip);
    let places = Span::new(start, stop, step)?;
    match value {
        V::Range(span) => {
            // A slice of a slice of … multiplies the steps.
            let at = |index: i128| span.step.checked_mul(index).and_then(|from| span.start.checked_add(from));
            match (at(start), at(stop), span.step.checked_mul(step)) {
                (Some(start), Some(stop), Some(step)) => Ok(V::Range(Span { start, stop, step, len: places.len })),
                _ => number::overflow(),
            }
        }
        V::Str(text) => text_slice(text, places, meter),
        V::List(items) => Ok(V::list(picked(items, places, meter)?)),
        V::Tuple(items) => Ok(V::tuple(picked(items, places, meter)?)),
        _ => type_error(format!("a {} has no slices", value.type_name())),
    }
}

fn place(span: Span, index: i128) -> usize {
    // Python's clipping above keeps every place of a slice within the value.
    usize::try_from(span.start + span.step * index).unwrap_or(usize::MAX)
}

fn picked<'a>(items: &Seq<'a>, places: Span, meter: &Meter) -> Res<Vec<V<'a>>> {
    meter.items(usize::try_from(places.len).unwrap_or(usize::MAX))?;
    Ok((0..places.len).filter_map(|index| items.get(place(places, index))).collect())
}

fn text_slice<'a>(text: &Text<'a>, places: Span, meter: &Meter) -> Res<V<'a>> {
    if places.len == 0 {
        return Ok(V::Str(Text::Lent("")));
    }
    if places.step == 1 {
        let start = place(places, 0);
        let part = chars(text, start, place(places, places.len));
        if let Text::Made(part) = &part {
            meter.text(part.len())?;
        }
        return Ok(V::Str(part));
    }
    meter.text(text.len())?;
    let all: Vec<char> = text.chars().collect();
    let out: String = (0..places.len).filter_map(|index| all.get(place(places, index))).collect();
    Ok(V::text(out))
}

impl<'a> Eval<'a> {
    /// `value.name`
    pub(super) fn attribute(&self, value: &V<'a>, name: &'a str) -> Res<V<'a>> {
        if let V::Func(func) = value
            && let Func::Builtin(owner) = **func
            && methods::of_type(owner, name)
        {
            return Ok(V::Func(Rc::new(Func::Unbound(owner, name))));
        }
        if methods::has(value, name) {
            return Ok(V::Func(Rc::new(Func::Bound(value.clone(), name))));
        }
        let missing = |message: String| Err(Fail::new(ErrorKind::Attribute, message));
        match value {
            V::Dict(_) if methods::changes(value, name) => forbidden(format!(
                "`.{name}` changes its dict, and an expression changes nothing; a field is reached with [{name:?}]"
            )),
            _ if methods::changes(value, name) => {
                forbidden(format!("`.{name}` changes its {}, and an expression changes nothing", value.type_name()))
            }
            V::Dict(Dict::Lent(map)) => match map.get(name) {
                Some(found) => Ok(V::lend(found)),
                None => missing(format!("there is no field `{name}`{}", offered(&Dict::Lent(map)))),
            },
            V::Dict(_) => missing(format!("a dict has no method `{name}`; a field is reached with [{name:?}]")),
            V::None => missing(format!("None has no `{name}`; is the field set?")),
            _ => missing(format!("a {} has no `{name}`", value.type_name())),
        }
    }
}

/// The most fields that a message lists.
const SHOWN: usize = 8;

/// What there is instead, for messages.
fn offered(dict: &Dict<'_>) -> String {
    let mut names: Vec<String> = Vec::new();
    for (key, _) in dict.entries().take(SHOWN) {
        match key {
            V::Str(name) => names.push(short(&name)),
            _ => return String::new(),
        }
    }
    match (dict.len(), names.join(", ")) {
        (0, _) => "; it is empty".into(),
        (n, names) if n > SHOWN => format!("; there are {names}, …"),
        (_, names) => format!("; there are {names}"),
    }
}

fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}
