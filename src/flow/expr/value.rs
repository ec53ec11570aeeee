//! The values of an evaluation. What was given is lent, not copied; what is made is shared.

use super::ast::Comp;
use super::error::{ErrorKind, Fail, Res, too_large, type_error, value_error};
use super::eval::Scope;
use super::meter::{MAX_RESULT_BYTES, Meter};
use super::number::float_repr;
use serde_json::{Map, Value};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::rc::Rc;

/// A value, as Python has it.
#[derive(Clone)]
pub(super) enum V<'a> {
    None,
    Ellipsis,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Text<'a>),
    List(Seq<'a>),
    Tuple(Seq<'a>),
    Set(Rc<Table<'a>>),
    Dict(Dict<'a>),
    Range(Span),
    View(View, Dict<'a>),
    Lazy(Rc<Lazy<'a>>),
    Func(Rc<Func<'a>>),
}

/// A text.
#[derive(Clone)]
pub(super) enum Text<'a> {
    Lent(&'a str),
    Made(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Lent(text) => text,
            Text::Made(text) => text,
        }
    }
}

impl<'a> Text<'a> {
    /// A part, by bytes that are borders of characters.
    pub(super) fn part(&self, range: Range<usize>) -> Text<'a> {
        match self {
            Text::Lent(text) => Text::Lent(&text[range]),
            Text::Made(text) => Text::Made(text[range].into()),
        }
    }
}

/// The elements of a list or tuple.
#[derive(Clone)]
pub(super) enum Seq<'a> {
    Lent(&'a [Value]),
    Made(Rc<Vec<V<'a>>>),
}

impl<'a> Seq<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Seq::Lent(items) => items.len(),
            Seq::Made(items) => items.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<V<'a>> {
        match self {
            Seq::Lent(items) => items.get(index).map(V::lend),
            Seq::Made(items) => items.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = V<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// What a value is found by in a set or dict: equal values have equal keys (`1`, `1.0`, `True`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    None,
    Ellipsis,
    Int(i128),
    Float(u64),
    Str(String),
    Tuple(Vec<Key>),
}

/// A set or dict that was made; a set's values are `None`.
#[derive(Default)]
pub(super) struct Table<'a> {
    pub(super) entries: Vec<(V<'a>, V<'a>)>,
    index: BTreeMap<Key, usize>,
}

impl<'a> Table<'a> {
    /// Sets a value; like Python, the first of equal keys stays.
    pub(super) fn put(&mut self, key: V<'a>, value: V<'a>, meter: &Meter) -> Res<()> {
        let found = key.key(meter, 0)?;
        match self.index.get(&found) {
            Some(index) => self.entries[*index].1 = value,
            None => {
                // Charged here, not by the caller, because only here is it known that the table grows.
                meter.charge(1)?;
                if self.entries.len() >= super::meter::MAX_ITEMS {
                    meter.items(self.entries.len() + 1)?;
                }
                self.index.insert(found, self.entries.len());
                self.entries.push((key, value));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &Key) -> Option<&V<'a>> {
        self.index.get(key).map(|index| &self.entries[*index].1)
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.index.contains_key(key)
    }

    /// A set of these, in its order.
    pub(super) fn set(items: impl IntoIterator<Item = V<'a>>, meter: &Meter) -> Res<V<'a>> {
        let mut table = Table::default();
        for item in items {
            table.put(item, V::None, meter)?;
        }
        let ordered = table.index.keys().all(|key| matches!(key, Key::Int(_)))
            || table.index.keys().all(|key| matches!(key, Key::Str(_)));
        if ordered {
            let mut places: Vec<usize> = table.index.values().copied().collect();
            let mut entries = Vec::with_capacity(places.len());
            for place in &mut places {
                entries.push((table.entries[*place].0.clone(), V::None));
            }
            table.entries = entries;
            for (place, index) in table.index.values_mut().enumerate() {
                *index = place;
            }
        }
        Ok(V::Set(Rc::new(table)))
    }
}

/// The fields of a dict.
#[derive(Clone)]
pub(super) enum Dict<'a> {
    Lent(&'a Map<String, Value>),
    Made(Rc<Table<'a>>),
}

impl<'a> Dict<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Dict::Lent(map) => map.len(),
            Dict::Made(table) => table.entries.len(),
        }
    }

    pub(super) fn get(&self, key: &V<'a>, meter: &Meter) -> Res<Option<V<'a>>> {
        if let (Dict::Lent(map), V::Str(name)) = (self, key) {
            return Ok(map.get(&**name).map(V::lend));
        }
        let key = key.key(meter, 0)?;
        Ok(match self {
            Dict::Lent(_) => None,
            Dict::Made(table) => table.get(&key).cloned(),
        })
    }

    pub(super) fn entries(&self) -> Box<dyn Iterator<Item = (V<'a>, V<'a>)> + '_> {
        match self {
            Dict::Lent(map) => Box::new(map.iter().map(|(k, v)| (V::Str(Text::Lent(k)), V::lend(v)))),
            Dict::Made(table) => Box::new(table.entries.iter().cloned()),
        }
    }
}

/// A `range`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
    pub(super) len: i128,
}

impl Span {
    pub(super) fn new(start: i128, stop: i128, step: i128) -> Res<Span> {
        // Python's own limit for `len`; it also keeps the sums below far from an overflow.
        let fits = |n: i128| i64::try_from(n).is_ok();
        if !fits(start) || !fits(stop) || !fits(step) {
            return too_large("a range past 64 bits");
        }
        let len = match step {
            0 => return value_error("range: the step is zero"),
            s if s > 0 => (stop - start + s - 1) / s,
            s => (start - stop - s - 1) / -s,
        };
        Ok(Span { start, stop, step, len: len.max(0) })
    }

    pub(super) fn get(&self, index: i128) -> V<'static> {
        V::Int(self.start + self.step * index)
    }
}

/// What of a dict a view shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// What is not evaluated before it is asked for. It can be walked once.
pub(super) struct Lazy<'a> {
    pub(super) spent: Cell<bool>,
    pub(super) what: Source<'a>,
}

pub(super) enum Source<'a> {
    Gen { comp: &'a Comp, first: V<'a>, scope: Scope<'a> },
    Enumerate { items: V<'a>, start: i128 },
    Zip { columns: Vec<V<'a>>, strict: bool },
}

/// What can be called.
pub(super) enum Func<'a> {
    /// `len`
    Builtin(&'static str),
    /// `text.strip`
    Bound(V<'a>, &'a str),
    /// `str.strip`
    Unbound(&'static str, &'a str),
}

impl<'a> V<'a> {
    pub(super) fn lend(value: &'a Value) -> V<'a> {
        match value {
            Value::Null => V::None,
            Value::Bool(b) => V::Bool(*b),
            Value::Number(n) => match n.as_i128() {
                Some(int) => V::Int(int),
                None => V::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => V::Str(Text::Lent(text)),
            Value::Array(items) => V::List(Seq::Lent(items)),
            Value::Object(map) => V::Dict(Dict::Lent(map)),
        }
    }

    pub(super) fn text(text: impl Into<Rc<str>>) -> V<'a> {
        V::Str(Text::Made(text.into()))
    }

    pub(super) fn list(items: Vec<V<'a>>) -> V<'a> {
        V::List(Seq::Made(Rc::new(items)))
    }

    pub(super) fn tuple(items: Vec<V<'a>>) -> V<'a> {
        V::Tuple(Seq::Made(Rc::new(items)))
    }

    pub(super) fn dict(table: Table<'a>) -> V<'a> {
        V::Dict(Dict::Made(Rc::new(table)))
    }

    /// The name of its type in messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            V::None => "None",
            V::Ellipsis => "ellipsis",
            V::Bool(_) => "bool",
            V::Int(_) => "int",
            V::Float(_) => "float",
            V::Str(_) => "str",
            V::List(_) => "list",
            V::Tuple(_) => "tuple",
            V::Set(_) => "set",
            V::Dict(_) => "dict",
            V::Range(_) => "range",
            V::View(View::Keys, _) => "dict_keys",
            V::View(View::Values, _) => "dict_values",
            V::View(View::Items, _) => "dict_items",
            V::Lazy(lazy) => match lazy.what {
                Source::Gen { .. } => "generator",
                Source::Enumerate { .. } => "enumerate",
                Source::Zip { .. } => "zip",
            },
            V::Func(func) => match **func {
                Func::Bound(..) | Func::Unbound(..) => "method",
                Func::Builtin(_) => "function",
            },
        }
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            V::None => false,
            V::Bool(b) => *b,
            V::Int(n) => *n != 0,
            V::Float(x) => *x != 0.0,
            V::Str(text) => !text.is_empty(),
            V::List(items) | V::Tuple(items) => items.len() > 0,
            V::Set(table) => !table.entries.is_empty(),
            V::Dict(dict) | V::View(_, dict) => dict.len() > 0,
            V::Range(span) => span.len > 0,
            V::Ellipsis | V::Lazy(_) | V::Func(_) => true,
        }
    }

    /// What a set or dict finds it by.
    pub(super) fn key(&self, meter: &Meter, depth: usize) -> Res<Key> {
        meter.depth(depth)?;
        Ok(match self {
            V::None => Key::None,
            V::Ellipsis => Key::Ellipsis,
            V::Bool(b) => Key::Int(i128::from(*b)),
            V::Int(n) => Key::Int(*n),
            #[expect(clippy::cast_possible_truncation, reason = "only whole numbers within 2^126 are cast")]
            V::Float(x) if x.fract() == 0.0 && x.abs() < 8e37 => Key::Int(*x as i128),
            V::Float(x) => Key::Float(x.to_bits()),
            V::Str(text) => {
                meter.scan(text)?;
                Key::Str(text.to_string())
            }
            V::Tuple(items) => {
                Key::Tuple(items.iter().map(|item| item.key(meter, depth + 1)).collect::<Res<Vec<Key>>>()?)
            }
            _ => return type_error(format!("a {} can not be a key or an element of a set", self.type_name())),
        })
    }

    /// The value as JSON: sets and tuples are lists.
    pub(super) fn into_json(self, meter: &Meter) -> Res<Value> {
        Json { meter, bytes: 0 }.value(&self, 0)
    }
}

/// A conversion to JSON, with what it has written.
struct Json<'m> {
    meter: &'m Meter,
    bytes: usize,
}

impl Json<'_> {
    fn text(&mut self, text: &str) -> Res<String> {
        self.bytes += text.len();
        if self.bytes > MAX_RESULT_BYTES {
            return too_large(format!("a result with more than {MAX_RESULT_BYTES} bytes of text"));
        }
        Ok(text.to_string())
    }

    fn value(&mut self, value: &V<'_>, depth: usize) -> Res<Value> {
        self.meter.depth(depth)?;
        Ok(match value {
            V::None => Value::Null,
            V::Bool(b) => Value::Bool(*b),
            V::Int(n) => match (i64::try_from(*n), u64::try_from(*n)) {
                (Ok(n), _) => n.into(),
                (_, Ok(n)) => n.into(),
                _ => return too_large(format!("{n} does not fit the 64 bits of a result")),
            },
            V::Float(x) => match serde_json::Number::from_f64(*x) {
                Some(n) => Value::Number(n),
                None => return value_error(format!("{} is not a number that JSON has", float_repr(*x))),
            },
            V::Str(text) => Value::String(self.text(text)?),
            V::List(items) | V::Tuple(items) => {
                Value::Array(items.iter().map(|item| self.value(&item, depth + 1)).collect::<Res<Vec<Value>>>()?)
            }
            V::Set(table) => Value::Array(
                table.entries.iter().map(|(item, _)| self.value(item, depth + 1)).collect::<Res<Vec<Value>>>()?,
            ),
            V::Dict(dict) => {
                let mut map = Map::new();
                for (key, value) in dict.entries() {
                    let name = self.name(&key)?;
                    let value = self.value(&value, depth + 1)?;
                    map.insert(name, value);
                }
                Value::Object(map)
            }
            V::Range(_) | V::View(..) | V::Lazy(_) => {
                return type_error(format!("a {} is not a result; make it a list with list(…)", value.type_name()));
            }
            V::Func(_) => {
                return type_error(format!("a {} is not a result; is it to be called, with (…)?", value.type_name()));
            }
            V::Ellipsis => return type_error("`...` is not a result"),
        })
    }

    /// A key as JSON's objects have it.
    fn name(&mut self, key: &V<'_>) -> Res<String> {
        match key {
            V::Str(text) => self.text(text),
            V::None => Ok("null".into()),
            V::Bool(b) => Ok(b.to_string()),
            V::Int(n) => Ok(n.to_string()),
            V::Float(x) => Ok(float_repr(*x)),
            _ => Err(Fail::new(ErrorKind::Type, format!("a {} is not a key that JSON has", key.type_name()))),
        }
    }
}
