//! Where everything in a text is: by byte inside, by line and column (characters, from 1) outside.

use super::scalar::Written;
use crate::model::PathSegment;
use serde_yaml::Location;
use std::collections::HashMap;
use std::sync::Arc;

/// A part of a text: its first byte, and how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) start: usize,
    pub(super) length: usize,
}

impl Stretch {
    pub(super) fn of(location: Location) -> Stretch {
        let span = location.span();
        let number = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        Stretch { start: number(span.byte_offset()), length: number(span.byte_len()) }
    }

    pub(super) fn end(self) -> usize {
        self.start.saturating_add(self.length)
    }
}

/// Where one value is, and what is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// Where it is written. Of a mapping or list: where it begins.
    pub(super) at: Stretch,
    /// Where an alias or a merge uses it, if it is written elsewhere.
    pub(super) used: Option<Stretch>,
    /// The key that it has.
    pub(super) key: Option<Stretch>,
    pub(super) is_collection: bool,
    /// How its text is written, if it is one.
    pub(super) text: Written,
    pub(super) items: Vec<Node>,
    pub(super) fields: HashMap<String, Node>,
}

impl Node {
    pub(super) fn new(referenced: Location, defined: Location) -> Node {
        let (at, used) = (Stretch::of(defined), Stretch::of(referenced));
        Node { at, used: (used != at).then_some(used), ..Node::default() }
    }

    fn child(&self, segment: &PathSegment) -> Option<&Node> {
        match segment {
            PathSegment::Key(key) => self.fields.get(key),
            PathSegment::Index(index) => self.items.get(*index),
        }
    }

    /// What is underlined when the value as a whole is meant: of what may have many lines, its key or its first one.
    fn whole(&self) -> Stretch {
        let first = || self.fields.values().filter_map(|field| field.key).find(|key| key.start == self.at.start);
        match self.key {
            Some(key) if self.is_collection || self.at.length == 0 => key,
            None if self.at.length == 0 => first().unwrap_or(self.at),
            _ => self.at,
        }
    }
}

/// Where the lines of a text begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Vec<usize>>);

impl Lines {
    pub(super) fn of(text: &[u8]) -> Lines {
        let behind = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        // A mark of the byte order is no character of the first line.
        let first = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Lines(Arc::new([first].into_iter().chain(behind).collect()))
    }

    /// The line of a byte, from 1, and where that line begins.
    pub(super) fn line(&self, byte: usize) -> (usize, usize) {
        let line = self.0.partition_point(|start| *start <= byte).max(1);
        (line, self.0.get(line - 1).copied().unwrap_or(0))
    }

    /// The first byte of a line, if there is such a line.
    pub(super) fn start(&self, line: usize) -> Option<usize> {
        self.0.get(line.checked_sub(1)?).copied()
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where everything in one document is.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    pub(super) lines: Lines,
    pub(super) root: Arc<Node>,
}

impl Positions {
    /// What a problem is about: the value at this path or its key, and within a text what begins so many characters into it.
    /// For a value that is not there: the nearest around it. Also: where an alias uses it.
    pub(super) fn find(
        &self,
        text: &[u8],
        path: &[PathSegment],
        at_key: bool,
        offset: usize,
    ) -> (Stretch, Option<Stretch>) {
        let mut node = self.root.as_ref();
        let mut is_there = true;
        let mut used = node.used;
        for segment in path {
            match node.child(segment) {
                Some(child) => node = child,
                None => {
                    is_there = false;
                    break;
                }
            }
            used = used.or(node.used);
        }
        let stretch = match node.key {
            Some(key) if at_key && is_there => key,
            _ if is_there && offset > 0 => within(text, node, offset).unwrap_or_else(|| node.whole()),
            _ => node.whole(),
        };
        (stretch, used)
    }
}

/// The name, number, or character that begins so many characters into the text of a scalar.
fn within(text: &[u8], node: &Node, offset: usize) -> Option<Stretch> {
    let raw = text.get(node.at.start..node.at.end()).and_then(|raw| std::str::from_utf8(raw).ok())?;
    let found = node.text.byte_of(raw, offset)?;
    let rest = raw.get(found..).unwrap_or_default();
    let word: usize = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').map(char::len_utf8).sum();
    let length = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    Some(Stretch { start: node.at.start + found, length })
}
