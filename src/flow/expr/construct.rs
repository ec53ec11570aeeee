//! The functions that are types: `int`, `str`, `list`, `dict`, …

use super::builtins::{Args, integer};
use super::compare::num;
use super::error::{Res, type_error, value_error};
use super::eval::Eval;
use super::number::{self, Num};
use super::text;
use super::value::{Lazy, Source, Span, Table, Text, V};
use std::cell::Cell;
use std::rc::Rc;

impl<'a> Eval<'a> {
    pub(super) fn construct(&self, name: &'static str, mut args: Args<'a>) -> Res<V<'a>> {
        match name {
            "int" => self.int(args),
            "float" => self.float(args),
            "str" => match args.places(name, 0, ["object"])? {
                [None] => Ok(V::Str(Text::Lent(""))),
                [Some(value)] => Ok(V::Str(text::str(&value, &self.meter)?)),
            },
            "list" => match args.places(name, 0, [""])? {
                [None] => Ok(V::list(Vec::new())),
                [Some(value)] => Ok(V::list(self.items(&value)?)),
            },
            "tuple" => match args.places(name, 0, [""])? {
                [Some(value @ V::Tuple(_))] => Ok(value),
                [None] => Ok(V::tuple(Vec::new())),
                [Some(value)] => Ok(V::tuple(self.items(&value)?)),
            },
            "set" => match args.places(name, 0, [""])? {
                [None] => Table::set([], &self.meter),
                [Some(value)] => Table::set(self.items(&value)?, &self.meter),
            },
            "dict" => self.to_dict(args),
            "enumerate" => {
                let [items, start] = args.places(name, 1, ["iterable", "start"])?;
                let items = items.unwrap_or(V::None);
                self.walkable(&items)?;
                let start = start.map_or(Ok(0), |start| integer(name, &start))?;
                Ok(lazy(Source::Enumerate { items, start }))
            }
            "zip" => {
                let columns = std::mem::take(&mut args.plain);
                let [strict] = args.places(name, 0, ["strict"])?;
                columns.iter().try_for_each(|column| self.walkable(column))?;
                Ok(lazy(Source::Zip { columns, strict: strict.is_some_and(|strict| strict.truthy()) }))
            }
            "range" => range(args),
            // `find` gives no other names.
            _ => type_error(format!("{name} can not be called")),
        }
    }

    fn int(&self, args: Args<'a>) -> Res<V<'a>> {
        let [value, base] = args.places("int", 0, ["", "base"])?;
        let base = match base {
            None => None,
            Some(base) => match u32::try_from(integer("int", &base)?) {
                Ok(base @ (0 | 2..=36)) => Some(base),
                _ => return value_error("int: a base is 0, or 2 to 36"),
            },
        };
        match (value, base) {
            (None, None) => Ok(V::Int(0)),
            (Some(V::Str(text)), base) => {
                self.meter.text(text.len())?;
                Ok(V::Int(number::parse_int(&text, base.unwrap_or(10))?))
            }
            (_, Some(_)) => type_error("int with a base needs a str"),
            (Some(value), None) => match num(&value) {
                Some(Num::Int(n)) => Ok(V::Int(n)),
                Some(Num::Float(x)) => Ok(V::Int(number::truncate(x)?)),
                None => type_error(format!("int needs a number or a str, not a {}", value.type_name())),
            },
        }
    }

    fn float(&self, args: Args<'a>) -> Res<V<'a>> {
        match args.places("float", 0, [""])? {
            [None] => Ok(V::Float(0.0)),
            [Some(V::Str(text))] => {
                self.meter.text(text.len())?;
                Ok(V::Float(number::parse_float(&text)?))
            }
            [Some(value)] => match num(&value) {
                Some(num) => Ok(V::Float(num.float())),
                None => type_error(format!("float needs a number or a str, not a {}", value.type_name())),
            },
        }
    }

    fn to_dict(&self, mut args: Args<'a>) -> Res<V<'a>> {
        let named = std::mem::take(&mut args.named);
        let [from] = args.places("dict", 0, [""])?;
        let mut table = Table::default();
        match from {
            None => {}
            Some(V::Dict(dict)) => {
                for (key, value) in dict.entries() {
                    table.put(key, value, &self.meter)?;
                }
            }
            Some(pairs) => self.each(&pairs, &mut |pair| {
                let pair = self.items(&pair)?;
                let [key, value] = pair.as_slice() else {
                    return value_error(format!("dict needs pairs, not {} values", pair.len()));
                };
                table.put(key.clone(), value.clone(), &self.meter)?;
                Ok(true)
            })?,
        }
        for (name, value) in named {
            table.put(V::Str(name), value, &self.meter)?;
        }
        Ok(V::dict(table))
    }
}

fn lazy<'a>(what: Source<'a>) -> V<'a> {
    V::Lazy(Rc::new(Lazy { spent: Cell::new(false), what }))
}

fn range<'a>(args: Args<'a>) -> Res<V<'a>> {
    let [first, second, third] = args.places("range", 1, ["", "", ""])?;
    let int = |value: Option<V<'a>>| value.map(|value| integer("range", &value)).transpose();
    let (first, second, step) = (int(first)?.unwrap_or(0), int(second)?, int(third)?.unwrap_or(1));
    Ok(V::Range(match second {
        Some(stop) => Span::new(first, stop, step)?,
        None => Span::new(0, first, 1)?,
    }))
}
