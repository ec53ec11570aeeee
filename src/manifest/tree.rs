//! The generic tree of a document, with the place of every value and key.

use super::places::{Node, Stretch};
use super::scalar::Written;
use crate::model::{DocPath, PathSegment};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::Spanned;
use std::fmt;

/// A value with the places inside it.
pub(super) enum Tree {
    Leaf(Value),
    List(Vec<Spanned<Tree>>),
    Mapping(Vec<(Spanned<String>, Spanned<Tree>)>),
}

/// A key that is there already.
pub(super) struct Repeated {
    /// The way to the first.
    pub(super) path: DocPath,
    pub(super) first: Stretch,
    pub(super) again: Stretch,
}

/// Takes a tree apart: its value, and where everything in it is. Of a key that is there twice the first counts.
pub(super) fn take_apart(text: &str, tree: Spanned<Tree>, repeated: &mut Vec<Repeated>) -> (Value, Node) {
    walk(text, tree, &mut Vec::new(), repeated)
}

fn walk(text: &str, tree: Spanned<Tree>, path: &mut DocPath, repeated: &mut Vec<Repeated>) -> (Value, Node) {
    let mut node = Node::new(tree.referenced, tree.defined);
    let value = match tree.value {
        Tree::Leaf(value) => {
            if let (Some(said), Some(raw)) = (value.as_str(), text.get(node.at.start..node.at.end())) {
                node.text = Written::of(said, raw);
            }
            value
        }
        Tree::List(items) => {
            let mut values = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                path.push(PathSegment::Index(index));
                let (value, item) = walk(text, item, path, repeated);
                path.pop();
                values.push(value);
                node.items.push(item);
            }
            Value::Array(values)
        }
        Tree::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, item) in entries {
                path.push(PathSegment::Key(key.value.clone()));
                let again = Stretch::of(key.defined);
                if let Some(first) = node.fields.get(&key.value) {
                    repeated.push(Repeated { path: path.clone(), first: first.key.unwrap_or(first.at), again });
                } else {
                    let (value, mut item) = walk(text, item, path, repeated);
                    item.key = Some(again);
                    node.fields.insert(key.value.clone(), item);
                    fields.insert(key.value, value);
                }
                path.pop();
            }
            Value::Object(fields)
        }
    };
    node.is_collection = value.is_array() || value.is_object();
    (value, node)
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
