//! The evaluator: one function a kind of node, so that the frames stay small in a debug build.

use super::ast::{Arg, Clause, Cmp, Comp, Entry, Item, Kind, Node, Shape, Target, Trailer, Yields};
use super::builtins::{self, Args};
use super::compare;
use super::error::{ErrorKind, Fail, Res, type_error, value_error};
use super::index;
use super::meter::Meter;
use super::ops;
use super::value::{Dict, Func, Lazy, Source, Span, Table, Text, V, View};
use regex::Regex;
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// What comprehensions have bound, the innermost first.
pub(super) type Scope<'a> = Option<Rc<Frame<'a>>>;

pub(super) struct Frame<'a> {
    bound: Vec<(&'a str, V<'a>)>,
    outer: Scope<'a>,
}

/// One evaluation.
pub(super) struct Eval<'a> {
    names: &'a Map<String, Value>,
    pub(super) meter: Meter,
    /// Patterns that were compiled: a comprehension may use one many times.
    pub(super) regexes: RefCell<BTreeMap<String, Regex>>,
}

/// Whether a walk goes on.
pub(super) type Walk = Res<bool>;

pub(super) fn run(root: &Node, names: &Map<String, Value>) -> Res<Value> {
    let eval = Eval { names, meter: Meter::new(), regexes: RefCell::new(BTreeMap::new()) };
    eval.node(root, &None)?.into_json(&eval.meter)
}

impl<'a> Eval<'a> {
    fn node(&self, node: &'a Node, scope: &Scope<'a>) -> Res<V<'a>> {
        self.meter.charge(1).map_err(|fail| fail.at(node.at))?;
        match &node.kind {
            Kind::None => Ok(V::None),
            Kind::Ellipsis => Ok(V::Ellipsis),
            Kind::Bool(b) => Ok(V::Bool(*b)),
            Kind::Int(n) => Ok(V::Int(*n)),
            Kind::Float(x) => Ok(V::Float(*x)),
            Kind::Str(text) => Ok(V::Str(Text::Lent(text))),
            Kind::Name(name) => self.name(name, scope).map_err(|fail| fail.at(node.at)),
            Kind::Display(shape, items) => self.display(*shape, items, scope).map_err(|fail| fail.at(node.at)),
            Kind::Dict(entries) => self.dict(entries, scope).map_err(|fail| fail.at(node.at)),
            Kind::Comp(comp) => self.comprehension(comp, scope).map_err(|fail| fail.at(node.at)),
            Kind::Unary(signs, operand) => {
                let mut value = self.node(operand, scope)?;
                for sign in signs.iter().rev() {
                    value = ops::unary(*sign, &value).map_err(|fail| fail.at(node.at))?;
                }
                Ok(value)
            }
            Kind::Not(odd, operand) => Ok(V::Bool(self.node(operand, scope)?.truthy() != *odd)),
            Kind::Chain(first, rest) => self.chain(first, rest, scope),
            Kind::Power(base, exponent) => {
                let base = self.node(base, scope)?;
                let exponent = self.node(exponent, scope)?;
                ops::binary(super::ast::Op::Pow, &base, &exponent, &self.meter).map_err(|fail| fail.at(node.at))
            }
            Kind::Compare(first, rest) => self.compare(first, rest, scope),
            Kind::And(nodes) => self.until(nodes, false, scope),
            Kind::Or(nodes) => self.until(nodes, true, scope),
            Kind::If(arms, last) => {
                for (value, condition) in arms {
                    if self.node(condition, scope)?.truthy() {
                        return self.node(value, scope);
                    }
                }
                self.node(last, scope)
            }
            Kind::Postfix(base, trailers) => self.postfix(base, trailers, scope),
        }
    }

    fn name(&self, name: &'a str, scope: &Scope<'a>) -> Res<V<'a>> {
        let mut frame = scope;
        while let Some(here) = frame {
            if let Some((_, value)) = here.bound.iter().rev().find(|(bound, _)| *bound == name) {
                return Ok(value.clone());
            }
            frame = &here.outer;
        }
        if let Some(value) = self.names.get(name) {
            return Ok(V::lend(value));
        }
        match name {
            "true" => return Ok(V::Bool(true)),
            "false" => return Ok(V::Bool(false)),
            "null" => return Ok(V::None),
            _ => {}
        }
        if let Some(builtin) = builtins::find(name) {
            return Ok(V::Func(Rc::new(Func::Builtin(builtin))));
        }
        let mut known: Vec<&str> = self.names.keys().map(String::as_str).take(8).collect();
        known.sort_unstable();
        let known =
            if known.is_empty() { "no names are given".into() } else { format!("given are {}", known.join(", ")) };
        Err(Fail::new(ErrorKind::Name, format!("there is no name `{name}` here; {known}")))
    }

    /// `and`, `or`: the first value whose truth is `stop`, else the last.
    fn until(&self, nodes: &'a [Node], stop: bool, scope: &Scope<'a>) -> Res<V<'a>> {
        let mut last = V::None;
        for node in nodes {
            last = self.node(node, scope)?;
            if last.truthy() == stop {
                break;
            }
        }
        Ok(last)
    }

    fn chain(&self, first: &'a Node, rest: &'a [(super::ast::Op, usize, Node)], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut left = self.node(first, scope)?;
        for (op, at, node) in rest {
            let right = self.node(node, scope)?;
            self.meter.charge(1).map_err(|fail| fail.at(*at))?;
            left = ops::binary(*op, &left, &right, &self.meter).map_err(|fail| fail.at(*at))?;
        }
        Ok(left)
    }

    fn compare(&self, first: &'a Node, rest: &'a [(Cmp, usize, Node)], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut left = self.node(first, scope)?;
        for (cmp, at, node) in rest {
            let right = self.node(node, scope)?;
            let holds = match cmp {
                Cmp::Eq => compare::equal(&left, &right, &self.meter),
                Cmp::Ne => compare::equal(&left, &right, &self.meter).map(|equal| !equal),
                Cmp::Lt | Cmp::Le | Cmp::Gt | Cmp::Ge => compare::ordered(*cmp, &left, &right, &self.meter),
                Cmp::In => self.contains(&left, &right),
                Cmp::NotIn => self.contains(&left, &right).map(|found| !found),
                Cmp::Is => Ok(compare::identical(&left, &right)),
                Cmp::IsNot => Ok(!compare::identical(&left, &right)),
            };
            if !holds.map_err(|fail| fail.at(*at))? {
                return Ok(V::Bool(false));
            }
            left = right;
        }
        Ok(V::Bool(true))
    }

    fn contains(&self, item: &V<'a>, container: &V<'a>) -> Res<bool> {
        if let Some(known) = compare::contains(item, container, &self.meter)? {
            return Ok(known);
        }
        let mut found = false;
        self.each(container, &mut |candidate| {
            found = compare::identical(item, &candidate) || compare::equal(item, &candidate, &self.meter)?;
            Ok(!found)
        })?;
        Ok(found)
    }

    fn display(&self, shape: Shape, items: &'a [Item], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let value = self.node(&item.node, scope)?;
            if item.star {
                self.extend(&mut values, &value).map_err(|fail| fail.at(item.node.at))?;
            } else {
                values.push(value);
            }
        }
        match shape {
            Shape::List => Ok(V::list(values)),
            Shape::Tuple => Ok(V::tuple(values)),
            Shape::Set => Table::set(values, &self.meter),
        }
    }

    fn dict(&self, entries: &'a [Entry], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut table = Table::default();
        for entry in entries {
            match entry {
                Entry::Pair(key, value) => {
                    let found = self.node(key, scope)?;
                    let value = self.node(value, scope)?;
                    table.put(found, value, &self.meter).map_err(|fail| fail.at(key.at))?;
                }
                Entry::Spread(node) => match self.node(node, scope)? {
                    V::Dict(dict) => {
                        for (key, value) in dict.entries() {
                            table.put(key, value, &self.meter).map_err(|fail| fail.at(node.at))?;
                        }
                    }
                    other => {
                        return type_error(format!("`**` needs a dict, not a {}", other.type_name()))
                            .map_err(|fail: Fail| fail.at(node.at));
                    }
                },
            }
        }
        Ok(V::dict(table))
    }

    fn postfix(&self, base: &'a Node, trailers: &'a [(usize, Trailer)], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut value = self.node(base, scope)?;
        for (at, trailer) in trailers {
            value = self.trailer(&value, trailer, scope).map_err(|fail| fail.at(*at))?;
        }
        Ok(value)
    }

    fn trailer(&self, value: &V<'a>, trailer: &'a Trailer, scope: &Scope<'a>) -> Res<V<'a>> {
        self.meter.charge(1)?;
        match trailer {
            Trailer::Attr(name) => self.attribute(value, name),
            Trailer::Index(node) => {
                let index = self.node(node, scope)?;
                index::subscript(value, &index, &self.meter)
            }
            Trailer::Slice(parts) => {
                let mut bounds = [None, None, None];
                for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                    *bound = part.as_ref().map(|node| self.node(node, scope)).transpose()?;
                }
                index::slice(value, bounds, &self.meter)
            }
            Trailer::Call(args) => self.call_with(value, args, scope),
        }
    }

    fn call_with(&self, func: &V<'a>, args: &'a [Arg], scope: &Scope<'a>) -> Res<V<'a>> {
        let mut given = Args::default();
        for arg in args {
            match arg {
                Arg::Plain(node) => given.plain.push(self.node(node, scope)?),
                Arg::Star(node) => {
                    let items = self.node(node, scope)?;
                    self.extend(&mut given.plain, &items).map_err(|fail| fail.at(node.at))?;
                }
                Arg::Named(name, node) => given.named.push((Text::Lent(name), self.node(node, scope)?)),
                Arg::Spread(node) => {
                    self.spread(&mut given, &self.node(node, scope)?).map_err(|fail| fail.at(node.at))?
                }
            }
        }
        self.call(func, given)
    }

    fn spread(&self, given: &mut Args<'a>, value: &V<'a>) -> Res<()> {
        let V::Dict(dict) = value else { return type_error(format!("`**` needs a dict, not a {}", value.type_name())) };
        for (key, value) in dict.entries() {
            self.meter.charge(1)?;
            match key {
                V::Str(name) => given.named.push((name, value)),
                other => return type_error(format!("the name of an argument is a str, not a {}", other.type_name())),
            }
        }
        Ok(())
    }

    /// Calls what can be called.
    pub(super) fn call(&self, func: &V<'a>, args: Args<'a>) -> Res<V<'a>> {
        self.meter.charge(1)?;
        let V::Func(callable) = func else {
            return type_error(format!("a {} can not be called", func.type_name()));
        };
        match &**callable {
            Func::Builtin(name) => self.builtin(name, args),
            Func::Bound(value, name) => self.method(value, name, args),
            Func::Unbound(owner, name) => self.unbound(owner, name, args),
        }
    }

    fn comprehension(&self, comp: &'a Comp, scope: &Scope<'a>) -> Res<V<'a>> {
        // The first sequence is evaluated at once, outside the scope of the comprehension, even for a generator.
        let Some(clause) = comp.clauses.first() else { return Ok(V::None) };
        let first = self.node(&clause.iter, scope)?;
        match &comp.yields {
            Yields::Gen(_) => {
                self.walkable(&first).map_err(|fail| fail.at(clause.iter.at))?;
                let what = Source::Gen { comp, first, scope: scope.clone() };
                Ok(V::Lazy(Rc::new(Lazy { spent: Cell::new(false), what })))
            }
            Yields::List(node) => Ok(V::list(self.gathered(node, comp, &first, scope)?)),
            Yields::Set(node) => Table::set(self.gathered(node, comp, &first, scope)?, &self.meter),
            Yields::Dict(key, value) => {
                let mut table = Table::default();
                self.clause(&comp.clauses, Some(&first), scope, &mut |scope| {
                    let found = self.node(key, scope)?;
                    table.put(found, self.node(value, scope)?, &self.meter).map_err(|fail| fail.at(key.at))?;
                    Ok(true)
                })?;
                Ok(V::dict(table))
            }
        }
    }

    fn gathered(&self, node: &'a Node, comp: &'a Comp, first: &V<'a>, scope: &Scope<'a>) -> Res<Vec<V<'a>>> {
        let mut items = Vec::new();
        self.clause(&comp.clauses, Some(first), scope, &mut |scope| {
            items.push(self.node(node, scope)?);
            self.room(items.len())?;
            Ok(true)
        })?;
        Ok(items)
    }

    /// Refuses a value that grew too large, without charging for it again.
    fn room(&self, len: usize) -> Res<()> {
        if len > super::meter::MAX_ITEMS { self.meter.items(len) } else { Ok(()) }
    }

    /// Runs the clauses of a comprehension, each inside the one before, and `body` in the innermost; whether to go on.
    fn clause(
        &self,
        clauses: &'a [Clause],
        first: Option<&V<'a>>,
        scope: &Scope<'a>,
        body: &mut dyn FnMut(&Scope<'a>) -> Walk,
    ) -> Walk {
        let Some((clause, inner)) = clauses.split_first() else { return body(scope) };
        let items = match first {
            Some(first) => first.clone(),
            None => self.node(&clause.iter, scope)?,
        };
        let mut go_on = true;
        self.each(&items, &mut |item| {
            let mut bound = Vec::new();
            self.bind(&clause.target, item, &mut bound).map_err(|fail| fail.at(clause.iter.at))?;
            let scope = Some(Rc::new(Frame { bound, outer: scope.clone() }));
            for condition in &clause.conditions {
                if !self.node(condition, &scope)?.truthy() {
                    return Ok(true);
                }
            }
            go_on = self.clause(inner, None, &scope, body)?;
            Ok(go_on)
        })
        .map_err(|fail| fail.at(clause.iter.at))?;
        Ok(go_on)
    }

    fn bind(&self, target: &'a Target, value: V<'a>, bound: &mut Vec<(&'a str, V<'a>)>) -> Res<()> {
        match target {
            Target::Name(name) => bound.push((name, value)),
            Target::Tuple(targets) => {
                let mut parts = Vec::with_capacity(targets.len());
                self.extend(&mut parts, &value)?;
                if parts.len() != targets.len() {
                    return value_error(format!("{} values for {} names", parts.len(), targets.len()));
                }
                for (target, part) in targets.iter().zip(parts) {
                    self.bind(target, part, bound)?;
                }
            }
        }
        Ok(())
    }

    /// All elements.
    pub(super) fn items(&self, value: &V<'a>) -> Res<Vec<V<'a>>> {
        let mut items = Vec::new();
        self.extend(&mut items, value)?;
        Ok(items)
    }

    fn extend(&self, items: &mut Vec<V<'a>>, value: &V<'a>) -> Res<()> {
        self.each(value, &mut |item| {
            items.push(item);
            self.room(items.len())?;
            Ok(true)
        })
    }

    /// Refuses what has no elements.
    pub(super) fn walkable(&self, value: &V<'a>) -> Res<()> {
        match value {
            V::None => type_error("None has no elements to walk; is the field set?"),
            V::Ellipsis | V::Bool(_) | V::Int(_) | V::Float(_) | V::Func(_) => {
                type_error(format!("a {} has no elements to walk", value.type_name()))
            }
            _ => Ok(()),
        }
    }

    /// Calls `f` with each element until it says stop.
    pub(super) fn each(&self, value: &V<'a>, f: &mut dyn FnMut(V<'a>) -> Walk) -> Res<()> {
        self.walkable(value)?;
        match value {
            V::List(items) | V::Tuple(items) => self.drive(items.iter(), f),
            V::Set(table) => self.drive(table.entries.iter().map(|(item, _)| item.clone()), f),
            V::Dict(dict) => self.view(View::Keys, dict, f),
            V::View(view, dict) => self.view(*view, dict, f),
            V::Range(span) => self.drive((0..span.len).map(|index| span.get(index)), f),
            V::Str(text) => {
                let ends = text.char_indices().map(|(at, c)| V::Str(text.part(at..at + c.len_utf8())));
                self.drive(ends, f)
            }
            V::Lazy(lazy) => self.lazy(lazy, f),
            _ => Ok(()),
        }
    }

    fn drive(&self, items: impl Iterator<Item = V<'a>>, f: &mut dyn FnMut(V<'a>) -> Walk) -> Res<()> {
        for item in items {
            self.meter.charge(1)?;
            if !f(item)? {
                break;
            }
        }
        Ok(())
    }

    fn view(&self, view: View, dict: &Dict<'a>, f: &mut dyn FnMut(V<'a>) -> Walk) -> Res<()> {
        let items = dict.entries().map(|(key, value)| match view {
            View::Keys => key,
            View::Values => value,
            View::Items => V::tuple(vec![key, value]),
        });
        self.drive(items, f)
    }

    fn lazy(&self, lazy: &Lazy<'a>, f: &mut dyn FnMut(V<'a>) -> Walk) -> Res<()> {
        if lazy.spent.replace(true) {
            return Ok(());
        }
        match &lazy.what {
            Source::Gen { comp, first, scope } => {
                let Yields::Gen(node) = &comp.yields else { return Ok(()) };
                self.clause(&comp.clauses, Some(first), scope, &mut |scope| f(self.node(node, scope)?)).map(drop)
            }
            Source::Enumerate { items, start } => {
                let mut index = *start;
                self.each(items, &mut |item| {
                    let here = V::Int(index);
                    index = index.saturating_add(1);
                    f(V::tuple(vec![here, item]))
                })
            }
            Source::Zip { columns, strict } => self.zip(columns, *strict, f),
        }
    }

    fn zip(&self, columns: &[V<'a>], strict: bool, f: &mut dyn FnMut(V<'a>) -> Walk) -> Res<()> {
        // A range may be endless for all purposes; everything else is gathered first.
        let mut gathered: Vec<Result<Span, Vec<V<'a>>>> = Vec::with_capacity(columns.len());
        for column in columns {
            gathered.push(match column {
                V::Range(span) => Ok(*span),
                other => Err(self.items(other)?),
            });
        }
        let length = |column: &Result<Span, Vec<V<'a>>>| match column {
            Ok(span) => span.len,
            Err(items) => items.len() as i128,
        };
        let shortest = gathered.iter().map(length).min().unwrap_or(0);
        for index in 0..shortest {
            self.meter.charge(columns.len() as u64)?;
            let row = gathered.iter().filter_map(|column| match column {
                Ok(span) => Some(span.get(index)),
                Err(items) => usize::try_from(index).ok().and_then(|index| items.get(index).cloned()),
            });
            if !f(V::tuple(row.collect()))? {
                return Ok(());
            }
        }
        if strict && gathered.iter().any(|column| length(column) != shortest) {
            return value_error("zip: the arguments have different lengths");
        }
        Ok(())
    }
}
