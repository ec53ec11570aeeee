//! The generic tree of a document, with the place of every value and key.

use crate::model::{DocPath, PathSegment};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::{Location, Spanned};
use std::collections::HashMap;
use std::fmt;

/// A value with the places inside it.
pub(super) enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Mapping(Vec<(Spanned<String>, Spanned<Tree>)>),
}

/// A place: line and column, from 1.
pub type Place = (usize, usize);

/// Where everything in one document is.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    values: HashMap<DocPath, Place>,
    keys: HashMap<DocPath, Place>,
}

impl Positions {
    /// Where the value at this path is; for one that is not there, the nearest that contains its place.
    pub fn value(&self, path: &[PathSegment]) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.values.get(path) {
                return *place;
            }
            match path.split_last() {
                Some((_, shorter)) => path = shorter,
                None => return (1, 1),
            }
        }
    }

    /// Where the key of the value at this path is.
    pub fn key(&self, path: &[PathSegment]) -> Place {
        self.keys.get(path).copied().unwrap_or_else(|| self.value(path))
    }
}

fn place(location: Location) -> Place {
    (usize::try_from(location.line()).unwrap_or(0), usize::try_from(location.column()).unwrap_or(0))
}

/// Takes a tree apart: its value, and where everything in it is.
pub(super) fn take_apart(tree: Spanned<Tree>) -> (Value, Positions) {
    let mut positions = Positions::default();
    let value = walk(tree, &mut Vec::new(), &mut positions);
    (value, positions)
}

fn walk(tree: Spanned<Tree>, path: &mut DocPath, positions: &mut Positions) -> Value {
    positions.values.insert(path.clone(), place(tree.referenced));
    match tree.value {
        Tree::Leaf(value) => value,
        Tree::List(items) => {
            let item = |(index, item)| {
                path.push(PathSegment::Index(index));
                let value = walk(item, path, positions);
                path.pop();
                value
            };
            Value::Array(items.into_iter().enumerate().map(item).collect())
        }
        Tree::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, item) in entries {
                path.push(PathSegment::Key(key.value.clone()));
                positions.keys.insert(path.clone(), place(key.referenced));
                let value = walk(item, path, positions);
                path.pop();
                fields.insert(key.value, value);
            }
            Value::Object(fields)
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Tree::Leaf(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Tree::Mapping(mapping))
    }
}
