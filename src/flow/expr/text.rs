//! `str` and `repr` of values.

use super::error::{Res, type_error};
use super::meter::Meter;
use super::number::float_repr;
use super::value::{Func, Text, V, View};

/// `str(value)`
pub(super) fn str<'a>(value: &V<'a>, meter: &Meter) -> Res<Text<'a>> {
    match value {
        V::Str(text) => Ok(text.clone()),
        other => Ok(Text::Made(repr(other, meter)?.into())),
    }
}

/// `repr(value)`
pub(super) fn repr(value: &V<'_>, meter: &Meter) -> Res<String> {
    let mut writer = Writer { meter, out: String::new() };
    writer.value(value, 0)?;
    meter.text(writer.out.len())?;
    Ok(writer.out)
}

struct Writer<'m> {
    meter: &'m Meter,
    out: String,
}

impl Writer<'_> {
    /// Refuses a text that grew too long; it is charged when it is done.
    fn check(&self) -> Res<()> {
        if self.out.len() > super::meter::MAX_BYTES { self.meter.text(self.out.len()) } else { Ok(()) }
    }

    fn value(&mut self, value: &V<'_>, depth: usize) -> Res<()> {
        self.meter.depth(depth)?;
        self.check()?;
        match value {
            V::None => self.out.push_str("None"),
            V::Ellipsis => self.out.push_str("Ellipsis"),
            V::Bool(b) => self.out.push_str(if *b { "True" } else { "False" }),
            V::Int(n) => self.out.push_str(&n.to_string()),
            V::Float(x) => self.out.push_str(&float_repr(*x)),
            V::Str(text) => {
                self.meter.text(text.len())?;
                quote(text, &mut self.out);
            }
            V::List(items) => self.row("[", items.iter(), "]", depth)?,
            V::Tuple(items) => {
                let close = if items.len() == 1 { ",)" } else { ")" };
                self.row("(", items.iter(), close, depth)?;
            }
            V::Set(table) if table.entries.is_empty() => self.out.push_str("set()"),
            V::Set(table) => self.row("{", table.entries.iter().map(|(item, _)| item.clone()), "}", depth)?,
            V::Dict(dict) => {
                self.out.push('{');
                for (i, (key, value)) in dict.entries().enumerate() {
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(&key, depth + 1)?;
                    self.out.push_str(": ");
                    self.value(&value, depth + 1)?;
                }
                self.out.push('}');
            }
            V::Range(span) => {
                let step = if span.step == 1 { String::new() } else { format!(", {}", span.step) };
                self.out.push_str(&format!("range({}, {}{step})", span.start, span.stop));
            }
            V::View(View::Keys, dict) => self.row("dict_keys([", dict.entries().map(|(k, _)| k), "])", depth)?,
            V::View(View::Values, dict) => self.row("dict_values([", dict.entries().map(|(_, v)| v), "])", depth)?,
            V::View(View::Items, dict) => {
                self.row("dict_items([", dict.entries().map(|(k, v)| V::tuple(vec![k, v])), "])", depth)?;
            }
            V::Lazy(_) => {
                return type_error(format!("a {} has no text; make it a list with list(…)", value.type_name()));
            }
            V::Func(func) => match &**func {
                Func::Builtin(name) if super::builtins::is_type(name) => {
                    self.out.push_str(&format!("<class '{name}'>"))
                }
                Func::Builtin(name) => self.out.push_str(&format!("<built-in function {name}>")),
                _ => return type_error("a method has no text; is it to be called, with (…)?"),
            },
        }
        Ok(())
    }

    fn row<'v>(&mut self, open: &str, items: impl Iterator<Item = V<'v>>, close: &str, depth: usize) -> Res<()> {
        self.out.push_str(open);
        for (i, item) in items.enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.value(&item, depth + 1)?;
        }
        self.out.push_str(close);
        Ok(())
    }
}

/// A text in quotes.
fn quote(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
}

/// Whether Python prints the character as it is.
pub(super) fn printable(c: char) -> bool {
    let hidden = c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}');
    !hidden
}
